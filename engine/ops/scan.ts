/** Cumulative sums and products along a dimension. */

import { DeviceArray, operand, type Spec } from "../array.ts";
import { DTYPES } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { linearGrid } from "../kernels/kernel.ts";
import { scanKernel, type ScanKind, scanTotalsKernel } from "../kernels/scan.ts";
import { defineOp, type HostArray, type Op, type Sample } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { contiguousStrides, normalizeDim, sizeOf } from "../shape.ts";
import { fill } from "./fill.ts";
import { plain, pointwise } from "./launch_pointwise.ts";
import { copyInto } from "./movement.ts";

/** Attributes of a scan. */
export interface ScanAttrs {
  readonly dim: number;
}

/** Threads above which rows are not cut into blocks. Of a discrete GPU it is a guess: none has been at hand. */
const TARGET_THREADS = { software: 1 << 12, discrete: 1 << 17 };
/** Length below which they are not either, and the shortest block. */
const SHORTEST = 256, SHORTEST_BLOCK = 32;

/** Elements of a block, of which a thread has one: of L where they are not cut. */
function blockOf(L: number, rows: number): number {
  const { software } = gpu().info;
  const target = software ? TARGET_THREADS.software : TARGET_THREADS.discrete;
  if (L <= SHORTEST || rows >= target) return L;
  // Few blocks are scanned in few passes; but where threads are many, one that walks far is waited for.
  const wanted = software ? Infinity : Math.ceil(L * rows / target);
  return Math.max(SHORTEST_BLOCK, Math.min(Math.ceil(Math.sqrt(L)), wanted));
}

/** A shape seen as [outer, L, inner] around `dim`; a scalar has L = 1. */
function lanes(shape: readonly number[], dim: number) {
  return {
    outer: sizeOf(shape.slice(0, dim)),
    L: shape[dim] ?? 1,
    inner: sizeOf(shape.slice(dim + 1)),
  };
}

/** Scans `inputs` (x, or a and b of h = a·h + b) along their middle dimension. */
function scan(
  kind: ScanKind,
  inputs: readonly DeviceArray[],
  options: { outer: number; L: number; inner: number; reverse: boolean; out: Spec },
): DeviceArray {
  const { outer, L, inner, reverse, out } = options;
  const y = DeviceArray.empty(out, `cum${kind}`);
  if (y.size === 0) return y;
  const sources = inputs.map(plain);
  const input = sources[0]!.dtype;
  const accumulator = DTYPES[out.dtype].compute;
  const spec = { kind, input, output: out.dtype, accumulator };
  const block = blockOf(L, outer * inner);
  const blocks = Math.ceil(L / block);
  const threads = outer * blocks * inner;
  const most = gpu().limits.maxComputeWorkgroupsPerDimension;
  const grid = linearGrid(threads, most);
  const params = { threads, L, inner, blocks, block, reverse: Number(reverse) };
  const bindings = sources.map((s) => operand(s).binding);
  const bytes = sources.reduce((n, s) => n + s.bytes, 0);
  let starts: DeviceArray | null = null;
  if (blocks > 1) {
    // Nothing follows the last block, so nobody asks for its total.
    const before = blocks - 1;
    const totalsSpec = { shape: [outer, before, inner], dtype: accumulator };
    const totals = (kind === "affine" ? ["factors", "totals"] : ["totals"])
      .map((name) => DeviceArray.empty(totalsSpec, `scan ${name}`));
    gpu().queue.launch({
      kernel: scanTotalsKernel(spec),
      buffers: [...bindings, ...totals.map((t) => operand(t).binding)],
      params: { ...params, threads: outer * before * inner, blocks: before },
      grid: linearGrid(outer * before * inner, most),
      cost: { flops: y.size, bytes },
    });
    starts = scan(kind, totals, { outer, L: before, inner, reverse: false, out: totalsSpec });
  }
  gpu().queue.launch({
    kernel: scanKernel({ ...spec, starts: starts !== null }),
    buffers: [...bindings, ...(starts ? [operand(starts).binding] : []), operand(y).binding],
    params,
    grid,
    cost: { flops: y.size, bytes: bytes + y.bytes },
  });
  return y;
}

function check(name: string) {
  return ([x]: readonly Spec[], { dim }: ScanAttrs): Spec[] => {
    normalizeDim(name, dim, x!.shape.length);
    return [{ shape: x!.shape, dtype: x!.dtype === "bool" ? "i32" : x!.dtype }];
  };
}

function hostScan(x: HostArray, { dim }: ScanAttrs, f: (h: number, x: number) => number) {
  const { outer, L, inner } = lanes(x.shape, normalizeDim("scan", dim, x.shape.length));
  const y = hostZeros(x.shape, x.dtype);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      for (let r = 0; r < L; r++) {
        const at = (o * L + r) * inner + i;
        y.data[at] = r === 0 ? x.data[at]! : f(y.data[at - inner]!, x.data[at]!);
      }
    }
  }
  return [y];
}

const SAMPLES: readonly Sample<ScanAttrs>[] = [
  { inputs: [{ shape: [7] }], attrs: { dim: 0 } },
  { inputs: [{ shape: [3, 5] }], attrs: { dim: 1 } },
  { inputs: [{ shape: [3, 5, 2] }], attrs: { dim: -2 } },
  { inputs: [{ shape: [] }], attrs: { dim: 0 } },
  { inputs: [{ shape: [2, 0, 3] }], attrs: { dim: 1 } },
];

/** y[r] = x[0] + … + x[r] along a dimension; bool counts as i32. */
export const cumsum: Op<ScanAttrs> = defineOp<ScanAttrs>({
  name: "cumsum",
  linear: {},
  check: check("cumsum"),
  forward(_ctx, [x], { dim }, [out]) {
    const at = lanes(x!.shape, normalizeDim("cumsum", dim, x!.shape.length));
    return [scan("sum", [x!], { ...at, reverse: false, out: out! })];
  },
  // dx[r] = dy[r] + … + dy[L - 1]
  backward(ctx, [dy], { dim }) {
    const { shape } = ctx.inputs[0]!;
    const at = lanes(shape, normalizeDim("cumsum", dim, shape.length));
    return [scan("sum", [dy!], { ...at, reverse: true, out: dy! })];
  },
  reference: ([x], attrs) => hostScan(x!, attrs, (h, v) => h + v),
  samples: [
    ...SAMPLES,
    // Around the length from which rows are cut, and where the last block is short.
    ...[256, 257, 291].map((n) => ({ inputs: [{ shape: [n] }], attrs: { dim: 0 } })),
    { inputs: [{ shape: [2, 300, 3] }], attrs: { dim: 1 }, terms: 300 },
    { inputs: [{ shape: [3, 2, 2500] }], attrs: { dim: 2 }, terms: 2500, grad: false },
  ],
});

/** y[r] = x[0] · … · x[r] along a dimension; bool counts as i32. */
export const cumprod: Op<ScanAttrs> = defineOp<ScanAttrs>({
  name: "cumprod",
  check: check("cumprod"),
  forward(ctx, [x], { dim }, [out]) {
    const at = lanes(x!.shape, normalizeDim("cumprod", dim, x!.shape.length));
    const y = scan("prod", [x!], { ...at, reverse: false, out: out! });
    ctx.save(x!, y);
    return [y];
  },
  // dx[r] = y[r - 1] · s[r] with s[r] = dy[r] + x[r + 1] · s[r + 1]: no division, so zeros are right.
  backward(ctx, [dy], { dim }) {
    const [x, y] = ctx.saved as [DeviceArray, DeviceArray];
    const at = lanes(x.shape, normalizeDim("cumprod", dim, x.shape.length));
    const shape = [at.outer, at.L, at.inner];
    const after = shifted(plain(x).view(shape, contiguousStrides(shape)), 1);
    const before = shifted(y.view(shape, contiguousStrides(shape)), -1);
    const out = { shape, dtype: "f32" } as const;
    const s = scan("affine", [after, asF32(dy!, shape)], { ...at, reverse: true, out });
    return [
      pointwise({
        name: "cumprod_backward",
        inputs: { s, before },
        expression: "s * before",
        compute: "f32",
        result: "f32",
      }, { shape, dtype: x.dtype }).view(x.shape, contiguousStrides(x.shape)),
    ];
  },
  factors: ([x], { dim }) => x!.shape[normalizeDim("cumprod", dim, x!.shape.length)] ?? 1,
  reference: ([x], attrs) => hostScan(x!, attrs, (h, v) => h * v),
  samples: [
    { inputs: [{ shape: [6], low: 0.5, high: 1.5 }], attrs: { dim: 0 } },
    ...SAMPLES,
    { inputs: [{ shape: [6], values: [1.5, 0, -2, 0, 0.5, 3] }], attrs: { dim: 0 } },
    { inputs: [{ shape: [6], values: [1.5, 2, -2, 0, 0.5, 3] }], attrs: { dim: 0 } },
    ...[257, 291].map((n) => ({
      inputs: [{ shape: [n], low: 0.93, high: 1.07 }],
      attrs: { dim: 0 },
    })),
    { inputs: [{ shape: [2, 300, 3], low: 0.93, high: 1.07 }], attrs: { dim: 1 }, terms: 300 },
  ],
});

/** f32 [outer, L, inner] whose element r is that of r + step, and 1 past the end. */
function shifted(x: DeviceArray, step: 1 | -1): DeviceArray {
  const y = fill({ shape: x.shape, dtype: "f32" }, 1);
  const [outer, L, inner] = x.shape as [number, number, number];
  if (L < 2) return y;
  const part = (a: DeviceArray, start: number) =>
    a.view([outer, L - 1, inner], a.strides, a.offset + start * inner);
  copyInto(part(x, step === 1 ? 1 : 0), part(y, step === 1 ? 0 : 1));
  return y;
}

function asF32(x: DeviceArray, shape: readonly number[]): DeviceArray {
  const y = DeviceArray.empty({ shape: x.shape, dtype: "f32" }, "cumprod gradient");
  copyInto(x, y);
  return y.view(shape, contiguousStrides(shape));
}
