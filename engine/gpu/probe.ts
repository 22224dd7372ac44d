/**
 * What an adapter can do, found by trying: small shaders are compiled and run and their results checked,
 * since a name in a feature list promises less than a right answer. `deno task doctor` prints it.
 */

import { adapterName, type InitOptions, openProvider } from "./device.ts";
import { BufferUsage, MapMode } from "./flags.ts";
import { HEAD, runShader } from "./run_shader.ts";

/** What trying a feature gave. */
export interface Tried {
  readonly works: boolean;
  /** What was seen, or why it does not work, in words. */
  readonly detail: string;
}

/** The APIs under WebGPU that can be told apart. */
export type Backend = "Vulkan" | "OpenGL" | "Metal" | "Direct3D 12" | "unknown";

/** Facts about an adapter that tell its backend. */
export interface AdapterFacts {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  readonly features: ReadonlySet<string>;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly maxSampledTexturesPerShaderStage: number;
  readonly maxStorageBuffersPerShaderStage: number;
}

/** The facts about the adapter that `init` opens with these options, or null where there is none. */
export async function adapterFacts(
  options: Pick<InitOptions, "provider"> = {},
): Promise<AdapterFacts | null> {
  const wgpu = await openProvider(options);
  const adapter = await wgpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return null;
  const { info, limits } = adapter;
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: adapterName(info),
    features: new Set<string>(adapter.features as unknown as Iterable<string>),
    subgroupMinSize: info.subgroupMinSize ?? 0,
    subgroupMaxSize: info.subgroupMaxSize ?? 0,
    maxSampledTexturesPerShaderStage: limits.maxSampledTexturesPerShaderStage,
    maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
  };
}

/**
 * The backend that Deno reached an adapter through; WebGPU does not say it.
 *
 * Without a Vulkan driver Deno takes Mesa's OpenGL, and the adapter's name is the same: `llvmpipe`
 * both times. OpenGL shows by what wgpu cannot ask it: the range of subgroup sizes is wgpu's default
 * of 4 to 128, and there are no more than 32 textures a stage, where Vulkan drivers have thousands.
 * (wgpu 29 on Mesa 25, Deno 2.9.6: 16 textures; Vulkan on the same machine 124,976.)
 *
 * @param os `Deno.build.os`
 */
export function backendOf(facts: AdapterFacts, os: string): Backend {
  if (os === "darwin") return "Metal";
  const guessed = facts.subgroupMinSize === 4 && facts.subgroupMaxSize === 128;
  if (guessed && facts.maxSampledTexturesPerShaderStage <= 32) return "OpenGL";
  if (os === "windows") return "Direct3D 12";
  return os === "linux" || os === "freebsd" || os === "android" ? "Vulkan" : "unknown";
}

const VENDORS: Readonly<Record<string, string>> = {
  "0x1002": "AMD",
  "0x10005": "Mesa",
  "0x1010": "Imagination",
  "0x106b": "Apple",
  "0x10de": "NVIDIA",
  "0x13b5": "Arm",
  "0x1414": "Microsoft",
  "0x5143": "Qualcomm",
  "0x8086": "Intel",
};

/** A vendor in words: Deno gives the PCI number as decimal text, browsers a name. */
export function vendorName(vendor: string): string {
  if (!/^\d+$/.test(vendor)) return vendor || "unknown";
  const hex = `0x${Number(vendor).toString(16).padStart(4, "0")}`;
  return VENDORS[hex] ? `${VENDORS[hex]} (${hex})` : hex;
}

/** Arithmetic in f16: 1 / 3 must be the nearest f16, 0x3555, and 2048 + 1 - 2048 should be 0. */
export async function tryF16(device: GPUDevice): Promise<Tried> {
  if (!device.features.has("shader-f16")) return { works: false, detail: "not granted" };
  const code = `enable f16;
${HEAD}
  if (lid.x == 0u) {
    let third = f16(y[1]) / f16(y[2]);
    let rest = (f16(y[3]) + f16(y[1])) - f16(y[3]);
    y[0] = pack2x16float(vec2<f32>(f32(third), f32(rest)));
  }
}`;
  const result = await runShader(device, code, Uint32Array.of(0, 1, 3, 2048));
  if (typeof result === "string") return { works: false, detail: result };
  return judgeF16(result[0]! & 0xffff, result[0]! >>> 16);
}

/** What the bits of 1 / 3 and of 2048 + 1 - 2048 say about f16. */
export function judgeF16(third: number, rest: number): Tried {
  // WGSL allows a division an error of 2.5 units in the last place.
  if (Math.abs(third - 0x3555) > 2) {
    return { works: false, detail: `1/3 comes out as 0x${third.toString(16)}, not 0x3555` };
  }
  // lavapipe computes in f32 and rounds late.
  const wider = rest === 0 ? "" : ", with more than 11 bits on the way";
  return { works: true, detail: `1/3 comes out right${wider}` };
}

/** Subgroup sums and broadcasts, and whether shaders must say `enable subgroups;`. */
export interface SubgroupsTried extends Tried {
  /** Lanes of a subgroup; 0 where they do not work. */
  readonly size: number;
  /** The directive shaders need, possibly empty: Chrome requires it, naga refuses it. */
  readonly directive: string;
}

/** Tries subgroups with `enable subgroups;` and without. */
export async function trySubgroups(device: GPUDevice): Promise<SubgroupsTried> {
  if (!device.features.has("subgroups" as GPUFeatureName)) {
    return { works: false, size: 0, directive: "", detail: "not granted" };
  }
  let reason = "";
  for (const directive of ["", "enable subgroups;\n"]) {
    const code = `${directive}${HEAD}
  y[lid.x] = subgroupAdd(1u);
  y[64u + lid.x] = subgroupBroadcast(lid.x, 0u);
}`;
    const result = await runShader(device, code, new Uint32Array(128));
    if (typeof result === "string") {
      reason ||= result;
      continue;
    }
    const size = result[0]!;
    const groups = new Set(result.subarray(64)).size;
    const same = result.subarray(0, 64).every((v) => v === size);
    if (!same || (size & (size - 1)) !== 0 || groups * size !== 64) {
      return { works: false, size: 0, directive, detail: "sums over a subgroup come out wrong" };
    }
    const how = directive ? "with" : "without";
    const lanes = size === 64 ? "64 lanes or more" : `${size} lanes`;
    return { works: true, size, directive, detail: `${lanes}, ${how} \`enable subgroups;\`` };
  }
  return { works: false, size: 0, directive: "", detail: reason };
}

/** Timestamps around a pass: eight times the work must take about eight times as long. */
export async function tryTimestamps(device: GPUDevice): Promise<Tried> {
  if (!device.features.has("timestamp-query")) return { works: false, detail: "not granted" };
  const pipeline = device.createComputePipeline({
    label: "probe timestamps",
    layout: "auto",
    compute: {
      module: device.createShaderModule({
        label: "probe timestamps",
        code: `${HEAD}
  var x = lid.x;
  for (var i = 0u; i < y[0]; i++) { x = x * 1664525u + 1013904223u; }
  y[1u + lid.x] = x;
}`,
      }),
      entryPoint: "main",
    },
  });
  const buffer = device.createBuffer({
    label: "probe timestamps",
    size: 512,
    usage: BufferUsage.STORAGE | BufferUsage.COPY_DST,
  });
  const group = device.createBindGroup({
    label: "probe timestamps",
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  const queries = device.createQuerySet({ label: "probe", type: "timestamp", count: 2 });
  const time = async (steps: number): Promise<{ gpuMs: number; wallMs: number }> => {
    device.queue.writeBuffer(buffer, 0, Uint32Array.of(steps));
    const resolved = device.createBuffer({
      label: "probe resolve",
      size: 16,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    });
    const staging = device.createBuffer({
      label: "probe readback",
      size: 16,
      usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
    });
    const start = performance.now();
    const encoder = device.createCommandEncoder({ label: "probe timestamps" });
    const pass = encoder.beginComputePass({
      label: "probe timestamps",
      timestampWrites: {
        querySet: queries,
        beginningOfPassWriteIndex: 0,
        endOfPassWriteIndex: 1,
      },
    });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MapMode.READ);
    const wallMs = performance.now() - start;
    const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
    resolved.destroy();
    staging.destroy();
    return { gpuMs: Number(end! - begin!) / 1e6, wallMs };
  };
  try {
    await time(1000); // the first run compiles
    const [short, long]: [number[], number[]] = [[], []];
    let wallMs = Infinity;
    for (let run = 0; run < 5; run++) {
      short.push((await time(20_000)).gpuMs);
      const slow = await time(160_000);
      long.push(slow.gpuMs);
      if (slow.gpuMs === Math.min(...long)) wallMs = slow.wallMs;
    }
    // The least is the least disturbed by other programs.
    return judgeTimestamps(Math.min(...short), Math.min(...long), { wallMs });
  } finally {
    queries.destroy();
    buffer.destroy();
  }
}

/** Whether two timings of work 1 : 8 can be believed. */
export function judgeTimestamps(
  shortMs: number,
  longMs: number,
  { wallMs }: { wallMs: number },
): Tried {
  const times = `${shortMs.toFixed(3)} ms, eight times the work ${longMs.toFixed(3)} ms`;
  if (!(shortMs > 0)) return { works: false, detail: `granted, but they stand still: ${times}` };
  if (longMs > wallMs * 1.05) {
    return {
      works: false,
      detail: `granted, but they run ahead: ${times} of ${wallMs.toFixed(1)}`,
    };
  }
  const ratio = longMs / shortMs;
  return ratio > 3 && ratio < 24
    ? { works: true, detail: `eight times the work takes ${ratio.toFixed(1)} times as long` }
    : { works: false, detail: `granted, but they do not follow the work: ${times}` };
}

/** Median milliseconds from a submit to four bytes on the host. */
export async function readbackMs(device: GPUDevice, options: { runs: number }): Promise<number> {
  const source = device.createBuffer({ label: "probe", size: 4, usage: BufferUsage.COPY_SRC });
  const staging = device.createBuffer({
    label: "probe readback",
    size: 4,
    usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
  });
  const times: number[] = [];
  for (let run = 0; run <= options.runs; run++) {
    const start = performance.now();
    const encoder = device.createCommandEncoder({ label: "probe readback" });
    encoder.copyBufferToBuffer(source, 0, staging, 0, 4);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MapMode.READ);
    staging.unmap();
    if (run > 0) times.push(performance.now() - start);
  }
  source.destroy();
  staging.destroy();
  return median(times);
}

/** What a dispatch of an almost empty kernel costs when many share one pass, in microseconds. */
export interface DispatchCost {
  /** On the host, to encode it. */
  readonly encodeUs: number;
  /** From encoding to the end of its run. */
  readonly totalUs: number;
}

/** Measures {@linkcode DispatchCost} as the difference between passes of N and 2 N dispatches. */
export async function dispatchCost(
  device: GPUDevice,
  options: { dispatches: number; runs: number },
): Promise<DispatchCost> {
  const pipeline = device.createComputePipeline({
    label: "probe dispatch",
    layout: "auto",
    compute: {
      module: device.createShaderModule({
        label: "probe dispatch",
        code: `${HEAD}\n  if (lid.x == 0u) { y[0] = y[0] + 1u; }\n}`,
      }),
      entryPoint: "main",
    },
  });
  const buffer = device.createBuffer({
    label: "probe dispatch",
    size: 256,
    usage: BufferUsage.STORAGE,
  });
  const group = device.createBindGroup({
    label: "probe dispatch",
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  const time = async (dispatches: number) => {
    const start = performance.now();
    const encoder = device.createCommandEncoder({ label: "probe dispatch" });
    const pass = encoder.beginComputePass({ label: "probe dispatch" });
    pass.setPipeline(pipeline);
    for (let i = 0; i < dispatches; i++) {
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(1);
    }
    pass.end();
    const commands = encoder.finish();
    const encoded = performance.now();
    device.queue.submit([commands]);
    await device.queue.onSubmittedWorkDone();
    return { encode: encoded - start, total: performance.now() - start };
  };
  const { dispatches, runs } = options;
  await time(dispatches);
  const [encode, total]: [number[], number[]] = [[], []];
  for (let run = 0; run < runs; run++) {
    const [once, twice] = [await time(dispatches), await time(2 * dispatches)];
    encode.push((twice.encode - once.encode) / dispatches * 1000);
    total.push((twice.total - once.total) / dispatches * 1000);
  }
  buffer.destroy();
  return { encodeUs: Math.max(0, median(encode)), totalUs: Math.max(0, median(total)) };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
