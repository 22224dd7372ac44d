/**
 * Compiled kernels and their layouts. The key is the full shader text, so it cannot go stale.
 *
 * Group 0 holds the uniform slab with a dynamic offset, then the storage buffers: one bind group a
 * dispatch, as every one costs the host time.
 */

import { GpuError } from "../errors.ts";
import { ShaderStage } from "./flags.ts";
import type { Access, Kernel } from "../kernels/kernel.ts";
import { debug } from "./debug.ts";
import type { Limits } from "./device.ts";

/** A compiled kernel. */
export interface Pipeline {
  readonly kernel: Kernel;
  readonly pipeline: GPUComputePipeline;
  readonly bindings: GPUBindGroupLayout;
  /** Number for bind-group cache keys. */
  readonly layoutId: number;
}

interface Layout {
  readonly id: number;
  readonly bindings: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

/** Compiles each kernel once. */
export class PipelineCache {
  /** Milliseconds spent compiling so far. */
  compileMs = 0;
  /** Gives the text to compile for a kernel in place of its own, for tests that plant faults. */
  rewrite: ((kernel: Kernel) => string) | null = null;
  readonly #mostBuffers: number;
  readonly #device: GPUDevice;
  readonly #enableSubgroups: boolean;
  readonly #byText = new Map<string, Pipeline>();
  readonly #byKernel = new WeakMap<Kernel, Pipeline>();
  readonly #layouts = new Map<string, Layout>();
  #errors: Promise<GpuError | null>[] = [];

  /** @param options.enableSubgroups whether kernels with subgroup functions must say so first */
  constructor(device: GPUDevice, options: { enableSubgroups: boolean; limits: Limits }) {
    this.#device = device;
    this.#mostBuffers = options.limits.maxStorageBuffersPerShaderStage;
    this.#enableSubgroups = options.enableSubgroups;
  }

  /** Number of compiled kernels. */
  get size(): number {
    return this.#byText.size;
  }

  /**
   * The compiled form of `kernel`.
   *
   * @throws {TypeError} if it needs f16 and the device has none
   * @throws {RangeError} if it binds more buffers than the device does
   */
  get(kernel: Kernel): Pipeline {
    let known = this.#byKernel.get(kernel);
    if (known) return known;
    known = this.#byText.get(kernel.code);
    if (known) {
      this.#byKernel.set(kernel, known);
      return known;
    }
    if (kernel.code.startsWith("enable f16") && !this.#device.features.has("shader-f16")) {
      throw new TypeError(`Cannot run ${kernel.name} in f16: this adapter lacks it; use f32`);
    }
    if (kernel.access.length > this.#mostBuffers) {
      throw new RangeError(
        `Cannot run ${kernel.name}: it binds ${kernel.access.length} buffers and this adapter ` +
          `binds ${this.#mostBuffers}`,
      );
    }
    const start = performance.now();
    const layout = this.#layout(kernel.access);
    this.#device.pushErrorScope("validation");
    const text = this.rewrite ? this.rewrite(kernel) : kernel.code;
    const code = kernel.subgroups && this.#enableSubgroups ? `enable subgroups;\n${text}` : text;
    const module = this.#device.createShaderModule({ label: kernel.name, code });
    const pipeline = this.#device.createComputePipeline({
      label: kernel.name,
      layout: layout.pipeline,
      compute: { module, entryPoint: "main" },
    });
    this.#errors.push(
      this.#device.popErrorScope().then((error) => error ? compileError(kernel, error) : null),
    );
    const ms = performance.now() - start;
    this.compileMs += ms;
    if (debug().level >= 3) debug().write(`[lathe] ${kernel.name}\n${kernel.code}`);
    else if (debug().level >= 1) {
      debug().write(`[lathe] compiled ${kernel.name} in ${ms.toFixed(1)} ms`);
    }
    const entry = { kernel, pipeline, bindings: layout.bindings, layoutId: layout.id };
    this.#byText.set(kernel.code, entry);
    this.#byKernel.set(kernel, entry);
    return entry;
  }

  /** Forgets the compiled form of `kernel`, for tests that compile thousands; recorded work keeps it. */
  forget(kernel: Kernel): void {
    this.#byText.delete(kernel.code);
    this.#byKernel.delete(kernel);
  }

  /** Waits for the compile errors seen since the last call and throws the first. */
  async settle(): Promise<void> {
    const errors = this.#errors;
    this.#errors = [];
    for (const error of await Promise.all(errors)) if (error) throw error;
  }

  #layout(access: readonly Access[]): Layout {
    const key = access.map((a) => a === "read" ? "r" : "w").join("");
    const known = this.#layouts.get(key);
    if (known) return known;
    const { COMPUTE: visibility } = ShaderStage;
    const bindings = this.#device.createBindGroupLayout({
      label: `uniforms, storage ${key}`,
      entries: [
        { binding: 0, visibility, buffer: { type: "uniform", hasDynamicOffset: true } },
        ...access.map((a, i) => ({
          binding: i + 1,
          visibility,
          buffer: { type: a === "read" ? "read-only-storage" as const : "storage" as const },
        })),
      ],
    });
    const layout = {
      id: this.#layouts.size,
      bindings,
      pipeline: this.#device.createPipelineLayout({
        label: `layout ${key}`,
        bindGroupLayouts: [bindings],
      }),
    };
    this.#layouts.set(key, layout);
    return layout;
  }
}

function compileError(kernel: Kernel, error: GPUError): GpuError {
  const numbered = kernel.code.split("\n").map((l, i) => `${String(i + 1).padStart(4)} ${l}`);
  return new GpuError(
    `Kernel ${kernel.name} does not compile: ${error.message.trim()}\n${numbered.join("\n")}`,
    { label: kernel.name },
  );
}
