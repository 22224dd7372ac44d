/** Matrix products of any strides, and the linear layer. */

import { DeviceArray, operand } from "../array.ts";
import { isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { mib } from "../gpu/pool.ts";
import { stridedValues } from "../kernels/kernel.ts";
import { matmulKernel } from "../kernels/matmul.ts";
import { type BackwardContext, defineOp, type HostArray, type Op, run } from "../op.ts";
import { hostAt, hostFrom } from "../reference.ts";
import {
  broadcastShapes,
  broadcastStrides,
  collapse,
  contiguousStrides,
  reshapeStrides,
  show,
  sizeOf,
} from "../shape.ts";
import {
  activate,
  type Activation,
  checkActivation,
  epilogueOf,
  gradientFromOutput,
  hostActivation,
  OUTPUT_ACTIVATIONS,
  type OutputActivation,
} from "./epilogue.ts";
import { fill } from "./fill.ts";
import { mergeShares } from "./gemm_shares.ts";
import { foursOf, launchGemm, planGemm, storesWide, whole } from "./gemm_plan.ts";
import { floatOf, type GemmKind } from "./gemm_tiles.ts";
import { copyOf } from "./launch_pointwise.ts";
import { copyInto, permuted, reshaped } from "./movement.ts";
import { sum, sumIn } from "./reduce.ts";

/** What is done to a product before it is stored. */
export interface GemmOptions {
  /** Added to every row: contiguous [N]. */
  readonly bias?: DeviceArray;
  /** Whether it is added to what C has. */
  readonly accumulate?: boolean;
  /** Applied last. */
  readonly activation?: Activation;
}

/** C = f(A · B + bias) for A [..., M, K], B [..., K, N] of any strides; batches broadcast. */
export function gemm(
  a: DeviceArray,
  b: DeviceArray,
  options: Omit<GemmOptions, "accumulate"> & { readonly dtype?: DeviceArray["dtype"] } = {},
): DeviceArray {
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const shape = [...batch, a.shape.at(-2)!, b.shape.at(-1)!];
  const dtype = options.dtype ?? a.dtype;
  if (a.shape.at(-1) === 0) {
    const zeros = fill({ shape, dtype }, 0);
    if (options.bias) copyInto(options.bias, zeros);
    if (options.activation) activate(options.activation, zeros);
    return zeros;
  }
  const c = DeviceArray.empty({ shape, dtype }, "matmul");
  gemmInto(a, b, c, options);
  return c;
}

/** As {@linkcode gemm}, into `c` [..., M, N], whose last dimension is contiguous. */
export function gemmInto(
  a: DeviceArray,
  b: DeviceArray,
  c: DeviceArray,
  options: GemmOptions,
): void {
  if (c.size === 0) return;
  if (inHalves(a, b, c, options)) return;
  const batch = c.shape.slice(0, -2);
  const [M, K, N] = [a.shape.at(-2)!, a.shape.at(-1)!, b.shape.at(-1)!];
  const flat = collapse(
    batch,
    [a, b].map((x) => broadcastStrides(x.shape.slice(0, -2), x.strides.slice(0, -2), batch)),
  );
  const size = { M, N, K, batch: batch.reduce((n, s) => n * s, 1) };
  const dtype = a.dtype === b.dtype ? floatOf(a) : "f32";
  // The second pass, which adds the shares of K, knows no rows that lie apart.
  const plan = planGemm(size, { kind: kindOf(a, b), dtype, shares: c.contiguous });
  const target = plan.splits === 1
    ? c
    : DeviceArray.empty({ shape: [size.batch, plan.splits, M, N], dtype: "f32" }, "matmul shares");
  const now = target === c ? options : {};
  const [oa, ob, oc] = [operand(a), operand(b), operand(target)];
  const bias = now.bias && operand(now.bias);
  const steps = flat.strides.map((s) => s.filter((_, d) => flat.shape[d]! > 1));
  const { tile } = plan;
  const wide = storesWide(tile) && whole(N, oc.offset, target.strides.at(-2)!);
  const aLayout = { size: M, stride: a.strides.at(-2)!, k: a.strides.at(-1)! };
  const bLayout = { size: N, stride: b.strides.at(-1)!, k: b.strides.at(-2)! };
  const kernel = matmulKernel({
    a: a.dtype,
    b: b.dtype,
    c: target.dtype,
    batchRank: flat.shape.length,
    bias: now.bias?.dtype,
    accumulate: now.accumulate,
    epilogue: epilogueOf(now.activation),
    aFours: foursOf({ ...aLayout, fixed: [oa.offset, ...steps[0]!] }, { K, tile, rows: tile.tm }),
    bFours: foursOf({ ...bLayout, fixed: [ob.offset, ...steps[1]!] }, {
      K,
      tile,
      rows: wide ? 32 : 1,
    }),
    wide,
  }, tile);
  launchGemm(kernel, {
    size,
    plan,
    buffers: [oa.binding, ob.binding, ...(bias ? [bias.binding] : []), oc.binding],
    params: {
      a_m: a.strides.at(-2)!,
      a_k: a.strides.at(-1)!,
      b_k: b.strides.at(-2)!,
      b_n: b.strides.at(-1)!,
      c_z: M * N,
      c_m: target.strides.at(-2)!,
      c_off: oc.offset,
      ...(bias ? { bias_off: bias.offset } : {}),
      ...stridedValues(flat.shape, {
        a: { offset: oa.offset, strides: flat.strides[0]! },
        b: { offset: ob.offset, strides: flat.strides[1]! },
      }),
    },
    cost: { flops: 2 * size.batch * M * N * K, bytes: a.bytes + b.bytes + c.bytes },
  });
  if (target === c) return;
  const { accumulate } = options;
  const epilogue = epilogueOf(options.activation);
  mergeShares(target, c, { batch: size.batch, splits: plan.splits }, {
    bias: options.bias,
    accumulate,
    epilogue,
  });
}

/** Which of two matrices lie column by column. */
function kindOf(a: DeviceArray, b: DeviceArray): GemmKind {
  const turned = (x: DeviceArray) => x.strides.at(-1) !== 1 && x.strides.at(-2) === 1;
  return turned(b) ? "nt" : turned(a) ? "tn" : "nn";
}

/** Does a product in two parts if a window on an operand is over what one binding can hold. */
function inHalves(
  a: DeviceArray,
  b: DeviceArray,
  c: DeviceArray,
  options: GemmOptions,
): boolean {
  const limit = gpu().limits.maxStorageBufferBindingSize;
  const large = [a, b, c].find((x) => {
    const { binding } = operand(x);
    return binding.byteEnd - binding.byteOffset > limit;
  });
  if (!large) return false;
  if (c.shape.length > 2) {
    throw new RangeError(
      `Cannot matmul a batch of ${show(large.shape)}: it is over the ${mib(limit)} this adapter ` +
        "binds at once; multiply the batch in parts",
    );
  }
  // Which of M, K, N the operand reaches furthest along: A is M x K, B is K x N, C is M x N.
  const [rows, columns] = large.shape.map((s, d) => (s - 1) * large.strides[d]!);
  const dim = rows! >= columns! ? 0 : 1;
  const axis = (large === a ? "MK" : large === b ? "KN" : "MN")[dim]!;
  const length = large.shape[dim]!;
  const half = Math.ceil(length / 2);
  if (half === length) return false;
  const cut = (x: DeviceArray, d: number, [start, size]: readonly [number, number]) =>
    x.view(x.shape.map((s, k) => k === d ? size : s), x.strides, x.offset + start * x.strides[d]!);
  for (const part of [[0, half], [half, length - half]] as const) {
    if (axis === "M") gemmInto(cut(a, 0, part), b, cut(c, 0, part), options);
    else if (axis === "N") {
      const bias = options.bias && cut(options.bias, 0, part);
      gemmInto(a, cut(b, 1, part), cut(c, 1, part), { ...options, bias });
    } else {
      const { activation, ...first } = options;
      const rest = part[0] === 0 ? first : { accumulate: true, activation };
      gemmInto(cut(a, 1, part), cut(b, 0, part), c, rest);
    }
  }
  return true;
}

function requireFloats(name: string, ...inputs: readonly { dtype: DeviceArray["dtype"] }[]): void {
  const first = inputs[0]!.dtype;
  for (const { dtype } of inputs) {
    if (!isFloat(dtype) || dtype !== first) {
      throw new TypeError(
        `Cannot ${name} dtypes ${
          inputs.map((i) => i.dtype).join(" and ")
        }: all must be the same float`,
      );
    }
  }
}

/** Vectors as matrices, as in NumPy: [K] by … is a row, … by [K] a column. */
function asMatrix(x: DeviceArray, side: "left" | "right"): DeviceArray {
  if (x.shape.length > 1) return x;
  const [size, step] = [x.shape[0]!, x.strides[0]!];
  return side === "left" ? x.view([1, size], [0, step]) : x.view([size, 1], [step, 0]);
}

function swapLast(x: DeviceArray): DeviceArray {
  const rank = x.shape.length;
  return permuted(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

/**
 * [..., M, K] as one matrix of all rows, where a second factor [K, N] is the same for all of them and that takes
 * no copy: one product in place of a batch, and no sum over the batch of the second factor's gradients.
 */
function allRows(a: DeviceArray, b: readonly number[]): DeviceArray | null {
  if (a.shape.length < 3 || b.length !== 2) return null;
  const shape = [sizeOf(a.shape.slice(0, -1)), a.shape.at(-1)!];
  const strides = reshapeStrides(a.shape, a.strides, shape);
  return strides && a.view(shape, strides);
}

/** Matrix product [..., M, K] by [..., K, N]; batches broadcast; vectors as in NumPy. */
export const matmul: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "matmul",
  check([a, b]) {
    requireFloats("matmul", a!, b!);
    const [sa, sb] = [a!.shape, b!.shape];
    if (sa.length === 0 || sb.length === 0) {
      throw new TypeError(
        `Cannot matmul ${show(sa)} by ${show(sb)}: scalars have no inner size; use mul`,
      );
    }
    const inner = sb.length === 1 ? sb[0]! : sb.at(-2)!;
    if (sa.at(-1) !== inner) {
      throw new TypeError(
        `Cannot matmul ${show(sa)} by ${show(sb)}: inner sizes ${
          sa.at(-1)
        } and ${inner} must be equal`,
      );
    }
    const batch = broadcastShapes("matmul batches", sa.slice(0, -2), sb.slice(0, -2));
    const rows = sa.length === 1 ? [] : [sa.at(-2)!];
    const columns = sb.length === 1 ? [] : [sb.at(-1)!];
    return [{ shape: [...batch, ...rows, ...columns], dtype: a!.dtype }];
  },
  forward(ctx, [a, b], _attrs, [out]) {
    ctx.save(...(ctx.needs[0] ? [b!] : []), ...(ctx.needs[1] ? [a!] : []));
    const left = allRows(a!, b!.shape) ?? asMatrix(a!, "left");
    return [reshaped(gemm(left, asMatrix(b!, "right")), out!.shape)];
  },
  backward(ctx, [dy]) {
    const [sa, sb] = ctx.inputs.map((i) => i.shape) as [readonly number[], readonly number[]];
    const rows = sa.length === 1 ? 1 : sa.at(-2)!;
    const columns = sb.length === 1 ? 1 : sb.at(-1)!;
    const batch = broadcastShapes("matmul", sa.slice(0, -2), sb.slice(0, -2));
    const saved = [...ctx.saved];
    const right = ctx.needs[0] ? saved.shift()! : null;
    const left = ctx.needs[1] ? saved.shift()! : null;
    const [forA, forB] = ctx.wanted;
    const b = forA && right ? asMatrix(right, "right") : null;
    const a = forB ? left : null;
    const whole = a && allRows(a, sb);
    const oneMatrix = sb.length === 2 && sa.length > 2 && (!a || whole !== null);
    const dc = reshaped(
      dy!,
      oneMatrix ? [sizeOf(sa.slice(0, -1)), columns] : [...batch, rows, columns],
    );
    const da = b && gemm(dc, swapLast(b), { dtype: forA! });
    const db = a && gemm(swapLast(whole ?? asMatrix(a, "left")), dc, { dtype: forB! });
    return [
      da &&
      (sa.length === 1 ? reshaped(sumTo(da, 2), [...sa]) : oneMatrix ? reshaped(da, [...sa]) : da),
      db && (sb.length === 1 ? reshaped(sumTo(db, 2), [...sb]) : db),
    ];
  },
  reference([a, b]) {
    const left: HostArray = a!.shape.length === 1 ? { ...a!, shape: [1, ...a!.shape] } : a!;
    const right: HostArray = b!.shape.length === 1 ? { ...b!, shape: [...b!.shape, 1] } : b!;
    const batch = broadcastShapes("matmul", left.shape.slice(0, -2), right.shape.slice(0, -2));
    const K = left.shape.at(-1)!;
    const full = hostFrom([...batch, left.shape.at(-2)!, right.shape.at(-1)!], (at) => {
      const [m, n] = [at.at(-2)!, at.at(-1)!];
      let total = 0;
      for (let k = 0; k < K; k++) {
        total += hostAt(left, [...at.slice(0, -2), m, k]) *
          hostAt(right, [...at.slice(0, -2), k, n]);
      }
      return total;
    });
    const shape = [...batch];
    if (a!.shape.length > 1) shape.push(left.shape.at(-2)!);
    if (b!.shape.length > 1) shape.push(right.shape.at(-1)!);
    return [{ ...full, shape }];
  },
  samples: [
    [[3, 5], [5, 4]],
    [[1, 1], [1, 1]],
    [[17, 33], [33, 9]],
    [[8, 16], [16, 32]],
    [[9, 7], [7, 33]],
    [[2, 3, 4], [4, 5]],
    [[2, 1, 3, 4], [5, 4, 2]],
    [[6], [6]],
    [[6], [6, 3]],
    [[2, 3, 6], [6]],
    [[3, 0], [0, 2]],
    [[9, 4], [4, 10]],
    [[9, 8], [8, 8]],
    // Whole fours of K, of columns, of both; and more than one turn of the loop over K.
    [[9, 12], [12, 36]],
    [[2, 17, 4], [2, 4, 40]],
    [[36, 9], [9, 12]],
    [[5, 12], [12, 6]],
    // The last columns of a tile whose rows do not end at a whole four.
    [[17, 8], [8, 31]],
  ].map(([a, b]) => ({
    inputs: [{ shape: a! }, { shape: b! }],
    attrs: {},
    terms: Math.max(1, a!.at(-1)!, ...a!, ...b!),
  })),
});

/** Sums leading dimensions until `rank` are left. */
function sumTo(x: DeviceArray, rank: number): DeviceArray {
  const extra = x.shape.length - rank;
  return extra > 0 ? run(sum, [x], { dim: [...Array(extra).keys()] }) : x;
}

/** Rows of x [..., K] as one matrix. */
function asRows(x: DeviceArray): DeviceArray {
  const rows = x.shape.slice(0, -1).reduce((n, s) => n * s, 1);
  return reshaped(x, [rows, x.shape.at(-1)!]);
}

/** Attributes of {@linkcode linear}. */
export interface LinearAttrs {
  /** Applied to the sum. */
  readonly activation?: OutputActivation;
}

/** y = f(x · wᵀ + bias) for x [..., K], w [N, K], bias [N], with an activation where there is one. */
export const linear: Op<LinearAttrs> = defineOp<LinearAttrs>({
  name: "linear",
  check([x, w, bias], { activation }) {
    checkActivation("linear", activation, OUTPUT_ACTIVATIONS);
    requireFloats("linear", x!, w!, ...(bias ? [bias] : []));
    if (w!.shape.length !== 2 || x!.shape.length === 0 || x!.shape.at(-1) !== w!.shape[1]) {
      throw new TypeError(
        `Cannot apply linear weight ${show(w!.shape)} to ${
          show(x!.shape)
        }: the input's last size ` +
          `must be the weight's second`,
      );
    }
    if (bias && (bias.shape.length !== 1 || bias.shape[0] !== w!.shape[0])) {
      throw new TypeError(
        `Cannot add bias ${show(bias.shape)} to ${w!.shape[0]} features: it must be [${
          w!.shape[0]
        }]`,
      );
    }
    return [{ shape: [...x!.shape.slice(0, -1), w!.shape[0]!], dtype: x!.dtype }];
  },
  forward(ctx, [x, w, bias], { activation }, [out]) {
    const flatBias = bias && !bias.contiguous ? copyOf(bias) : bias;
    const rows = gemm(asRows(x!), permuted(w!, [1, 0]), { bias: flatBias, activation });
    const y = rows.view(out!.shape, contiguousStrides(out!.shape));
    ctx.save(
      ...(activation ? [y] : []),
      ...(ctx.needs[0] ? [w!] : []),
      ...(ctx.needs[1] ? [x!] : []),
    );
    return [y];
  },
  backward(ctx: BackwardContext, [grad], { activation }) {
    const saved = [...ctx.saved];
    const dy = activation ? gradientFromOutput(activation, saved.shift()!, grad!) : grad!;
    const rows = asRows(dy);
    const w = ctx.needs[0] ? saved.shift()! : null;
    const x = ctx.needs[1] ? saved.shift()! : null;
    const [forX, forW, forBias] = ctx.wanted;
    const grads = [
      w && forX ? reshaped(gemm(rows, w, { dtype: forX }), ctx.inputs[0]!.shape) : null,
      x && forW ? gemm(permuted(rows, [1, 0]), asRows(x), { dtype: forW }) : null,
    ];
    if (ctx.inputs[2]) grads.push(forBias ? sumIn(rows, { dim: 0, dtype: forBias }) : null);
    return grads;
  },
  sumsOf: () => ({}),
  reference([x, w, bias], { activation }) {
    const K = w!.shape[1]!;
    const f = hostActivation(activation);
    return [
      hostFrom([...x!.shape.slice(0, -1), w!.shape[0]!], (at) => {
        const n = at.at(-1)!;
        let total = bias ? bias.data[n]! : 0;
        for (let k = 0; k < K; k++) {
          total += hostAt(x!, [...at.slice(0, -1), k]) * hostAt(w!, [n, k]);
        }
        return f(total);
      }),
    ];
  },
  samples: [
    // Small, so that nothing saturates.
    ...[6, 8, 12].flatMap((K) =>
      OUTPUT_ACTIVATIONS.map((activation) => ({
        inputs: [[9, K], [28, K], [28]].map((shape) => ({ shape, low: -0.7, high: 0.7 })),
        attrs: { activation },
        grad: K === 6,
        terms: 9,
      }))
    ),
    ...OUTPUT_ACTIVATIONS.map((activation) => ({
      inputs: [[9, 6], [8, 6], [8]].map((shape) => ({ shape, low: -0.7, high: 0.7 })),
      attrs: { activation },
      terms: 9,
    })),
    {
      inputs: [[9, 11], [7, 11]].map((shape) => ({ shape, low: -0.7, high: 0.7 })),
      attrs: { activation: "relu" as const },
      terms: 11,
    },
    // Shares of K, merged four columns at a time and one by one.
    ...[8, 5].map((N) => ({
      inputs: [{ shape: [9, 520] }, { shape: [N, 520] }, { shape: [N] }],
      attrs: { activation: "relu" as const },
      terms: 521,
    })),
    ...[6, 8].map((N) => ({
      inputs: [{ shape: [2, 516] }, { shape: [N, 516] }, { shape: [N] }],
      attrs: {},
      terms: 517,
    })),
    { inputs: [{ shape: [4, 6] }, { shape: [3, 6] }, { shape: [3] }], attrs: {}, terms: 7 },
    { inputs: [{ shape: [2, 5, 7] }, { shape: [9, 7] }], attrs: {}, terms: 10 },
    { inputs: [{ shape: [33, 17] }, { shape: [40, 17] }, { shape: [40] }], attrs: {}, terms: 40 },
    { inputs: [{ shape: [5] }, { shape: [2, 5] }, { shape: [2] }], attrs: {}, terms: 6 },
    { inputs: [{ shape: [9, 6] }, { shape: [10, 6] }, { shape: [10] }], attrs: {}, terms: 10 },
    { inputs: [{ shape: [9, 9] }, { shape: [7, 9] }, { shape: [7] }], attrs: {}, terms: 10 },
    { inputs: [{ shape: [17, 9] }, { shape: [31, 9] }, { shape: [31] }], attrs: {}, terms: 31 },
    { inputs: [{ shape: [5, 12] }, { shape: [6, 12] }, { shape: [6] }], attrs: {}, terms: 12 },
    { inputs: [{ shape: [17, 8] }, { shape: [31, 8] }], attrs: {}, terms: 31 },
  ],
});
