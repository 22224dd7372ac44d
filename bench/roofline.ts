/**
 * @file What the adapter can do at best: multiply-adds a second without memory, and bytes a second without
 * arithmetic. Measured in the same run as the kernels that are compared with them.
 */

import { DeviceArray, operand } from "../engine/array.ts";
import { gpu } from "../engine/gpu/device.ts";
import { kernel, linearGrid, linearThread } from "../engine/kernels/kernel.ts";
import { type KernelTime, profile } from "../engine/mod.ts";

/** Peaks of the adapter. */
export interface Roofline {
  /** GFLOP/s of f32 fused multiply-adds in registers. */
  readonly gflops: number;
  /** GB/s read plus written by a copy of 64 MiB. */
  readonly gbs: number;
}

const CHAINS = 8;
const UNROLL = 32;
const ROUNDS = 64;

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

/** The fastest of a few runs. */
async function best(run: () => void): Promise<KernelTime> {
  run();
  const times: KernelTime[] = [];
  for (let i = 0; i < 5; i++) times.push((await profile(run))[0]!);
  return times.reduce((a, b) => a.ms < b.ms ? a : b);
}

/** Measures both peaks; a second or two. */
export async function measureRoofline(): Promise<Roofline> {
  const { queue, limits, info } = gpu();
  const most = limits.maxComputeWorkgroupsPerDimension;
  const threads = info.software ? 1 << 13 : 1 << 20;
  const out = DeviceArray.empty({ shape: [threads], dtype: "f32" }, "roofline");
  const fma = await best(() =>
    queue.launch({
      kernel: fmaKernel(),
      buffers: [operand(out).binding],
      params: { threads, x: 0.999, y: 0.001, rounds: ROUNDS },
      grid: linearGrid(threads, most),
      cost: { flops: threads * ROUNDS * UNROLL * CHAINS * 2, bytes: threads * 4 },
    })
  );
  const elements = 1 << 22;
  const [x, y] = [0, 1].map(() =>
    DeviceArray.empty({ shape: [4 * elements], dtype: "f32" }, "roofline")
  ) as [DeviceArray, DeviceArray];
  const copy = await best(() =>
    queue.launch({
      kernel: copyKernel(),
      buffers: [operand(x).binding, operand(y).binding],
      params: { threads: elements },
      grid: linearGrid(elements, most),
      cost: { flops: 0, bytes: x.bytes + y.bytes },
    })
  );
  for (const a of [out, x, y]) a.release();
  return { gflops: fma.flops / fma.ms / 1e6, gbs: copy.bytes / copy.ms / 1e6 };
}
