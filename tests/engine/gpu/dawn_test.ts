import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NoAdapterError } from "../../../engine/errors.ts";
import { DAWN_PACKAGE, dawnSwitches, loadDawn, loadError } from "../../../engine/gpu/dawn.ts";
import { init } from "../../../engine/gpu/device.ts";
import { ROOT } from "../../helpers/source.ts";
import type { SmokeReport } from "./dawn_smoke.ts";

/** Runs a script in a process of its own. */
async function run(args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["run", "--no-prompt", "--quiet", "--no-lock", ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

const SMOKE = new URL("tests/engine/gpu/dawn_smoke.ts", ROOT).href;
const { stdout, stderr } = await run(["--allow-ffi", "--allow-read", SMOKE]);
const report = JSON.parse(stdout.trim().split("\n").at(-1) || "{}") as Partial<SmokeReport>;
if (report.skipped) console.log(`The tests of Dawn are skipped: ${report.skipped}`);

/** A test of what the other process saw; ignored where Dawn does not load. */
function dawnTest(name: string, fn: (report: SmokeReport) => void): void {
  Deno.test({
    name,
    ignore: !!report.skipped,
    fn: () => {
      assert(report.providers, `The process failed:\n${stderr}`);
      fn(report as SmokeReport);
    },
  });
}

dawnTest("Dawn opens devices, opens them again, and takes one that the caller opened", (seen) => {
  assertEquals(seen.providers, ["dawn", "dawn", "caller"]);
});

dawnTest("ops give what their references give on Dawn", (seen) => {
  assertEquals(Object.keys(seen.ops).length, 5);
  for (const [name, problems] of Object.entries(seen.ops)) assertEquals(problems, [], name);
});

dawnTest(
  "a captured step on Dawn replays to the same bits, with and without bounds checks",
  (seen) => {
    const { plain, replayed, unchecked } = seen.losses;
    assertEquals(plain.length, 6);
    assert(plain.every(Number.isFinite) && plain[5]! < plain[0]!, `${plain}`);
    assertEquals(replayed, plain);
    assertEquals(unchecked, plain);
  },
);

dawnTest("the event loop runs while a read waits for Dawn", (seen) => assert(seen.timerRan));

dawnTest("a second provider and a lost device are errors that say so", (seen) => {
  assertMatch(
    seen.errors.second!,
    /^Error: Cannot open the GPU with provider "native": it is open/,
  );
  assertEquals(seen.errors.lost, "GpuError: The GPU device was destroyed");
});

Deno.test("the package is pinned, as its computed name escapes the rule on imports", () => {
  assertMatch(DAWN_PACKAGE, /^npm:webgpu@\d+\.\d+\.\d+$/);
});

Deno.test("the lock file is without the package, which it would download for everybody", () => {
  const lock = Deno.readTextFileSync(new URL("deno.lock", ROOT));
  assert(!lock.includes("webgpu@"), "deno.lock names webgpu: take it out, and run with --no-lock");
});

Deno.test("dawnSwitches() leaves bounds checks out only when told", () => {
  assert(!dawnSwitches({ robustness: true }).join().includes("disable_robustness"));
  assert(dawnSwitches({ robustness: false }).join().includes("disable_robustness"));
});

Deno.test("without --allow-ffi nothing is loaded, and the error says what to run with", async () => {
  const code = `import { init } from "${new URL("engine/mod.ts", ROOT).href}";
await init({ provider: "dawn" }).catch((error) => console.log(error.name + ": " + error.message));`;
  const { stdout } = await run([`data:application/typescript,${encodeURIComponent(code)}`]);
  assertEquals(
    stdout.trim(),
    "NoAdapterError: Cannot load npm:webgpu@0.6.2, a native library, without permission: run with " +
      '--allow-ffi, or use the provider "native"',
  );
});

Deno.test("loadError() tells a missing binary from a missing network", () => {
  const build = { os: "freebsd", arch: "x86_64" };
  const binary = loadError(
    new Error("Cannot find module '/x/dist/freebsd-x64/dawn.node'\nRequire stack:"),
    build,
  );
  assertMatch(binary.message, /^Cannot load npm:webgpu@\S+ on freebsd x86_64, it has binaries for/);
  assertMatch(binary.message, /\(Cannot find module '\/x\/dist\/freebsd-x64\/dawn\.node'\)$/);
  const network = loadError(new TypeError("error sending request for url"), build);
  assertMatch(network.message, /^Cannot get npm:webgpu@\S+: run `deno cache npm:webgpu@/);
});

Deno.test("outside Deno the provider dawn is an error", async () => {
  const real = Object.getOwnPropertyDescriptor(globalThis, "Deno")!;
  Object.defineProperty(globalThis, "Deno", { value: undefined, configurable: true });
  try {
    // An instance that was loaded before is given again, so other switches than any test's.
    await assertRejects(
      () => loadDawn({ robustness: false }),
      NoAdapterError,
      'The provider "dawn" is for Deno',
    );
  } finally {
    Object.defineProperty(globalThis, "Deno", real);
  }
});

Deno.test("init() refuses options that do not go together", async () => {
  await assertRejects(
    () => init({ provider: "metal" as "dawn" }),
    TypeError,
    'Unknown provider "metal": it must be "native" or "dawn"',
  );
  await assertRejects(
    () => init({ provider: "dawn", device: {} as GPUDevice }),
    TypeError,
    "Cannot take both a device and a provider: leave one out",
  );
  await assertRejects(
    () => init({ robustness: false }),
    TypeError,
    'Cannot leave out bounds checks here: only provider "dawn" can',
  );
});
