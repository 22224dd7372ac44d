/**
 * Dawn, Chrome's WebGPU, as a second provider of devices for Deno: `npm:webgpu`, a native library.
 *
 * It is imported only when asked for, and by a computed name: Deno would download a literal one, 132 MB
 * with the binaries of every platform, for everybody who imports this library. For the same reason it
 * must not stand in deno.lock: the tasks that use it run with `--no-lock`.
 */

import { NoAdapterError } from "../errors.ts";
import { type Immediates, paceImmediates } from "./dawn_ticks.ts";

/** Name and version of the package. */
export const DAWN_PACKAGE: string = "npm:webgpu@0.6.2";

/** What is used of the package. Source: https://github.com/dawn-gpu/node-webgpu */
interface DawnPackage {
  create(options: string[]): GPU;
}

/** Switches of Dawn. Source: https://dawn.googlesource.com/dawn/+/refs/heads/main/src/dawn/native/Toggles.cpp */
export interface DawnOptions {
  /** Whether shaders clamp every index and fill workgroup memory with zeros first. */
  robustness: boolean;
}

/** Instances by their switches. They must outlive their devices, so they stay. */
const instances = new Map<string, GPU>();

/**
 * Dawn's entry point, in place of `navigator.gpu`.
 *
 * @throws {NoAdapterError} outside Deno, without `--allow-ffi`, or where the package does not load
 */
export async function loadDawn(options: DawnOptions): Promise<GPU> {
  const switches = dawnSwitches(options);
  const key = switches.join(" ");
  let instance = instances.get(key);
  if (!instance) {
    const dawn = await importDawn();
    paceImmediates(globalThis as unknown as Immediates);
    instance = dawn.create(switches);
    instances.set(key, instance);
  }
  return instance;
}

/** What Dawn is started with. */
export function dawnSwitches({ robustness }: DawnOptions): string[] {
  // Subgroup matrices count as unsafe, f16 on NVIDIA as not yet conformant; timestamps are rounded to
  // 0.1 ms against spying pages.
  const on = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];
  if (!robustness) on.push("disable_robustness", "disable_workgroup_init");
  return [
    `enable-dawn-features=${on.join(",")}`,
    "disable-dawn-features=timestamp_quantization",
  ];
}

async function importDawn(): Promise<DawnPackage> {
  const deno = (globalThis as { Deno?: typeof Deno }).Deno;
  if (!deno?.permissions) {
    throw new NoAdapterError(
      'The provider "dawn" is for Deno: leave it out to use this runtime\'s own WebGPU',
    );
  }
  // Asked for before the import, which would download first.
  const ffi = deno.permissions.requestSync({ name: "ffi" });
  if (ffi.state !== "granted" && !ffi.partial) throw withoutPermission();
  try {
    return await import(DAWN_PACKAGE) as DawnPackage;
  } catch (error) {
    throw loadError(error, deno.build);
  }
}

/** Why the package did not load, and what would be right. */
export function loadError(
  error: unknown,
  build: { readonly os: string; readonly arch: string },
): NoAdapterError {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  if (name === "NotCapable") return withoutPermission(error);
  const first = message.trim().split("\n")[0];
  // The binary is asked for by platform, and one that is there may not fit the machine's C library.
  if (/\.node\b|dlopen|cannot open shared object/i.test(message)) {
    return new NoAdapterError(
      `Cannot load ${DAWN_PACKAGE} on ${build.os} ${build.arch}, it has binaries for Linux (glibc) ` +
        `and Windows on x64 and arm64, and for macOS: use the provider "native" (${first})`,
      { cause: error },
    );
  }
  return new NoAdapterError(
    `Cannot get ${DAWN_PACKAGE}: run \`deno cache ${DAWN_PACKAGE}\` once with a network, or use the ` +
      `provider "native" (${first})`,
    { cause: error },
  );
}

function withoutPermission(cause?: unknown): NoAdapterError {
  return new NoAdapterError(
    `Cannot load ${DAWN_PACKAGE}, a native library, without permission: run with --allow-ffi, or use ` +
      'the provider "native"',
    { cause },
  );
}
