/**
 * @file What the adapter can do at best: multiply-adds a second without memory, and bytes a second without
 * arithmetic. Measured in the same run as the kernels that are compared with them.
 */

import { DeviceArray, operand } from "./array.ts";
import { gpu } from "./gpu/device.ts";
import { Profiler } from "./gpu/profiler.ts";
import { kernel, linearGrid, linearThread } from "./kernels/kernel.ts";

/** Peaks of the adapter. */
export interface Roofline {
  /** GFLOP/s of f32 fused multiply-adds in registers. */
  readonly gflops: number;
  /** GB/s read plus written by a copy of 64 MiB, or of what one binding holds. */
  readonly gbs: number;
}

const CHAINS = 8;
const UNROLL = 32;
const ROUNDS = 64;
/** Runs, of which the fastest counts. */
const RUNS = 5;

/** Eight independent chains of multiply-adds a thread; the sum is stored, so that none is dropped. */
function fmaKernel() {
  const names = Array.from({ length: CHAINS }, (_, i) => `a${i}`);
  const round = Array.from(
    { length: UNROLL },
    () => names.map((a) => `    ${a} = fma(${a}, x, y);`).join("\n"),
  );
  return kernel({
    name: "roofline_fma",
    buffers: [{ name: "out", access: "write", type: "f32" }],
    params: { threads: "u32", x: "f32", y: "f32", rounds: "u32" },
    body: `${linearThread("t", "p.threads")}
  let x = p.x; let y = p.y;
${names.map((a, i) => `  var ${a} = f32(t + ${i}u);`).join("\n")}
  for (var r = 0u; r < p.rounds; r++) {
${round.join("\n")}
  }
  out[t] = ${names.join(" + ")};`,
  });
}

function copyKernel() {
  return kernel({
    name: "roofline_copy",
    buffers: [
      { name: "x", access: "read", type: "vec4<f32>" },
      { name: "y", access: "write", type: "vec4<f32>" },
    ],
    params: { threads: "u32" },
    body: `${linearThread("t", "p.threads")}
  y[t] = x[t];`,
  });
}

/** Milliseconds of the fastest of a few runs. */
async function best(run: () => void): Promise<number> {
  const { queue, device } = gpu();
  run();
  await queue.synchronize();
  const profiler = new Profiler(device);
  const outer = queue.profiler;
  queue.profiler = profiler;
  try {
    for (let i = 0; i < RUNS; i++) run();
    await queue.synchronize();
  } finally {
    queue.profiler = outer;
  }
  return Math.min(...(await profiler.finish()).map(({ ms }) => ms));
}

const measured = new WeakMap<object, Promise<Roofline>>();

/**
 * The peaks of the open adapter. The first call measures both, in about a second; later ones give the same
 * numbers unless `again` is set.
 *
 * @throws {GpuError} if the adapter has no timestamp queries
 */
export function measureRoofline({ again = false } = {}): Promise<Roofline> {
  const owner = gpu();
  const known = measured.get(owner);
  if (known && !again) return known;
  const peaks = measure();
  measured.set(owner, peaks);
  return peaks;
}

async function measure(): Promise<Roofline> {
  const { queue, limits, info } = gpu();
  const most = limits.maxComputeWorkgroupsPerDimension;
  const threads = info.software ? 1 << 13 : 1 << 20;
  const out = DeviceArray.empty({ shape: [threads], dtype: "f32" }, "roofline");
  const flops = threads * ROUNDS * UNROLL * CHAINS * 2;
  const fmaMs = await best(() =>
    queue.launch({
      kernel: fmaKernel(),
      buffers: [operand(out).binding],
      params: { threads, x: 0.999, y: 0.001, rounds: ROUNDS },
      grid: linearGrid(threads, most),
      cost: { flops, bytes: threads * 4 },
    })
  );
  const elements = Math.min(1 << 22, Math.floor(limits.maxStorageBufferBindingSize / 16));
  const [x, y] = [0, 1].map(() =>
    DeviceArray.empty({ shape: [4 * elements], dtype: "f32" }, "roofline")
  ) as [DeviceArray, DeviceArray];
  const copyMs = await best(() =>
    queue.launch({
      kernel: copyKernel(),
      buffers: [operand(x).binding, operand(y).binding],
      params: { threads: elements },
      grid: linearGrid(elements, most),
      cost: { flops: 0, bytes: x.bytes + y.bytes },
    })
  );
  for (const a of [out, x, y]) a.release();
  const bytes = x.bytes + y.bytes;
  return { gflops: flops / fmaMs / 1e6, gbs: bytes / copyMs / 1e6 };
}
