/** One direction of one layer of an LSTM, GRU or plain recurrent net over all time steps. */

import { DeviceArray, inArena, operand } from "../array.ts";
import { type DType, isFloat } from "../dtype.ts";
import { gpu } from "../gpu/device.ts";
import { mib } from "../gpu/pool.ts";
import { linearGrid } from "../kernels/kernel.ts";
import {
  RECURRENT_GATES,
  RECURRENT_KEPT,
  recurrentBackwardKernel,
  type RecurrentCell,
  recurrentForwardKernel,
} from "../kernels/recurrent.ts";
import { defineOp, type HostArray, type Op, run, type Sample } from "../op.ts";
import { hostZeros } from "../reference.ts";
import { contiguousStrides, sameShape, show } from "../shape.ts";
import { fill } from "./fill.ts";
import { floatOf, inDType, plain } from "./launch_pointwise.ts";
import { gemm, gemmInto } from "./matmul.ts";
import { copyInto, permuted } from "./movement.ts";
import { sum, sumIn } from "./reduce.ts";

/** Attributes of {@linkcode recurrent}. */
export interface RecurrentAttrs {
  readonly cell: RecurrentCell;
  /** Walks from the last time step to the first. */
  readonly reverse: boolean;
  /** Input `b` is there. */
  readonly bias: boolean;
  /** Input `lengths` is there. */
  readonly masked: boolean;
}

/** Inputs by name; arrays come in the order gx, w, h0, c0 (LSTM), b (bias), lengths (masked). */
interface Named<T> {
  readonly gx: T;
  readonly w: T;
  readonly h0: T;
  readonly c0: T | undefined;
  readonly b: T | undefined;
  readonly lengths: T | undefined;
}

function named<T>(list: readonly T[], { cell, bias, masked }: RecurrentAttrs): Named<T> {
  let next = 3;
  const [gx, w, h0] = list as readonly [T, T, T];
  const c0 = cell === "lstm" ? list[next++] : undefined;
  const b = bias ? list[next++] : undefined;
  const lengths = masked ? list[next++] : undefined;
  return { gx, w, h0, c0, b, lengths };
}

/**
 * gx [T, N, G·H] (the input times its weights, with its bias), w [G·H, H], h0 [N, H], c0 [N, H], b
 * [G·H], lengths i32 [N] → y [T, N, H], h at the end [N, H], for an LSTM c at the end [N, H]. All floats
 * are f32 or all are f16; sums, gates and cell states are f32 in between.
 */
export const recurrent: Op<RecurrentAttrs> = defineOp<RecurrentAttrs>({
  name: "recurrent",
  check(inputs, attrs) {
    const { gx, w, h0, c0, b, lengths } = named(inputs, attrs);
    const G = RECURRENT_GATES[attrs.cell];
    const [T, N] = gx.shape as [number, number];
    const H = w.shape[1] ?? 0;
    const floats = [gx, w, h0, ...(c0 ? [c0] : []), ...(b ? [b] : [])];
    const { dtype } = gx;
    if (!isFloat(dtype) || floats.some((a) => a.dtype !== dtype)) {
      throw new TypeError(
        `Cannot run a recurrent layer on ${
          floats.map((a) => a.dtype).join(", ")
        }: gates, weights, ` +
          "states and bias must all be f32 or all f16",
      );
    }
    const fits = gx.shape.length === 3 && sameShape(gx.shape, [T, N, G * H]) &&
      sameShape(w.shape, [G * H, H]) && sameShape(h0.shape, [N, H]) &&
      (!c0 || sameShape(c0.shape, [N, H])) && (!b || sameShape(b.shape, [G * H]));
    if (!fits) {
      throw new TypeError(
        `Cannot run ${attrs.cell} on gates ${show(gx.shape)}, weights ${
          show(w.shape)
        } and states ` +
          `${[h0, ...(c0 ? [c0] : [])].map((a) => show(a.shape)).join(" and ")}: they must be ` +
          `[T, N, ${G}·H], [${G}·H, H] and [N, H]`,
      );
    }
    if (T === 0) throw new TypeError("Cannot run a recurrent layer over 0 time steps");
    if (lengths && (lengths.dtype !== "i32" || !sameShape(lengths.shape, [N]))) {
      throw new TypeError(
        `Cannot run a recurrent layer with lengths ${show(lengths.shape)} ${lengths.dtype}: they ` +
          `must be i32 [${N}]`,
      );
    }
    const state = { shape: [N, H], dtype } as const;
    return [{ shape: [T, N, H], dtype }, state, ...(attrs.cell === "lstm" ? [state] : [])];
  },
  forward(ctx, inputs, attrs) {
    const given = named(inputs, attrs);
    const gx = plain(given.gx);
    const lengths = given.lengths && plain(given.lengths);
    const b = given.b && plain(given.b);
    const [T, N] = gx.shape as [number, number];
    const H = given.w.shape[1]!;
    const lstm = attrs.cell === "lstm";
    const steps = timeline(T, N * H, attrs.reverse);
    const { dtype } = floatOf(gx);
    const empty = (shape: readonly number[], label: string, as: DType = "f32") =>
      DeviceArray.empty({ shape, dtype: as }, label);
    const hs = empty([T + 1, N, H], "recurrent states", dtype);
    const cs = lstm ? empty([T + 1, N, H], "recurrent cells") : undefined;
    const kept = empty([T, N, RECURRENT_KEPT[attrs.cell] * H], "recurrent gates");
    const y = lengths ? empty([T, N, H], "recurrent output", dtype) : undefined;
    const gh = empty([N, RECURRENT_GATES[attrs.cell] * H], "recurrent products");
    checkBindings([gx, hs, kept]);
    copyInto(given.h0, at(hs, [N, H], steps.start));
    if (cs) copyInto(given.c0!, at(cs, [N, H], steps.start));
    if (N * H > 0) {
      const weights = permuted(given.w, [1, 0]);
      const kernel = recurrentForwardKernel({ cell: attrs.cell, masked: attrs.masked, dtype });
      const buffers = [
        gx,
        gh,
        hs,
        ...(cs ? [cs] : []),
        ...(kept.size > 0 ? [kept] : []),
        ...(lengths ? [y!, lengths] : []),
      ];
      for (const step of steps.list) {
        inArena(() => (gemmInto(at(hs, [N, H], step.before), weights, gh, { bias: b }), []));
        launch(kernel, buffers, { N, H, step, attrs });
      }
    }
    ctx.save(given.w, hs, kept, ...(cs ? [cs] : []), ...(lengths ? [lengths] : []));
    return [
      y ?? at(hs, [T, N, H], attrs.reverse ? 0 : N * H),
      at(hs, [N, H], steps.end),
      ...(cs ? [inDType(at(cs, [N, H], steps.end), dtype)] : []),
    ];
  },
  backward(ctx, grads, attrs) {
    const [w, hs, kept, ...rest] = ctx.saved as [DeviceArray, DeviceArray, DeviceArray];
    const lstm = attrs.cell === "lstm";
    const cs = lstm ? rest.shift() : undefined;
    const lengths = attrs.masked ? rest.shift() : undefined;
    const [T, N] = ctx.inputs[0]!.shape as [number, number];
    const H = w.shape[1]!;
    const steps = timeline(T, N * H, attrs.reverse);
    const dy = plain(grads[0]!);
    const dgx = DeviceArray.empty(ctx.inputs[0]!, "recurrent gate gradients");
    const dgh = attrs.cell === "gru" ? DeviceArray.empty(dgx, "recurrent gate gradients") : dgx;
    const own = (grad: DeviceArray) => {
      const copy = DeviceArray.empty({ shape: [N, H], dtype: "f32" }, "recurrent state gradient");
      copyInto(grad, copy);
      return copy;
    };
    const product = own(grads[1]!);
    const passes = attrs.masked || attrs.cell === "gru";
    const direct = passes ? fill(product, 0) : undefined;
    const dc = lstm ? own(grads[2]!) : undefined;
    if (N * H > 0) {
      const G = RECURRENT_GATES[attrs.cell];
      const kernel = recurrentBackwardKernel({
        cell: attrs.cell,
        masked: attrs.masked,
        ...floatOf(dgx),
      });
      const buffers = [
        dy,
        product,
        ...(lstm ? [] : [hs]),
        ...(kept.size > 0 ? [kept] : []),
        ...(cs ? [cs] : []),
        ...(lengths ? [lengths] : []),
        ...(direct ? [direct] : []),
        ...(dc ? [dc] : []),
        dgx,
        ...(dgh === dgx ? [] : [dgh]),
      ];
      for (const step of steps.list.toReversed()) {
        launch(kernel, buffers, { N, H, step, attrs });
        const gates = at(dgh, [N, G * H], step.time * N * G * H);
        inArena(() => (gemmInto(gates, w, product, {}), []));
      }
    }
    // dw = Σ over steps of dghᵀ · h before the step, as one product.
    const rows = dgh.view([T * N, dgh.shape[2]!], [dgh.shape[2]!, 1]);
    const before = at(hs, [T * N, H], attrs.reverse ? N * H : 0);
    const result: (DeviceArray | null)[] = [
      dgx,
      ctx.wanted[1] ? gemm(permuted(rows, [1, 0]), before, { dtype: ctx.wanted[1] }) : null,
      !ctx.needs[2] ? null : direct ? total(product, direct) : product,
    ];
    if (dc) result.push(dc);
    if (attrs.bias) {
      const dtype = ctx.wanted[result.length];
      result.push(dtype ? sumIn(rows, { dim: 0, dtype }) : null);
    }
    if (attrs.masked) result.push(null);
    return result;
  },
  reference,
  samples: samples(),
});

/** The window of a contiguous array that starts `offset` elements from its start. */
function at(array: DeviceArray, shape: readonly number[], offset: number): DeviceArray {
  return array.view(shape, contiguousStrides(shape), array.offset + offset);
}

/** A time step, and where the states before and after it start. */
interface Step {
  readonly time: number;
  readonly before: number;
  readonly after: number;
}

/**
 * Steps in the order they are walked. State t of `hs` is the one before step t going forward, and the
 * one after step t going backward, so that outputs and earlier states are windows of `hs`.
 */
function timeline(
  T: number,
  size: number,
  reverse: boolean,
): { list: Step[]; start: number; end: number } {
  const list = Array.from({ length: T }, (_, i) => {
    const time = reverse ? T - 1 - i : i;
    const [before, after] = reverse ? [time + 1, time] : [time, time + 1];
    return { time, before: before * size, after: after * size };
  });
  return { list, start: reverse ? T * size : 0, end: reverse ? 0 : T * size };
}

function launch(
  kernel: ReturnType<typeof recurrentForwardKernel>,
  arrays: readonly DeviceArray[],
  { N, H, step, attrs }: { N: number; H: number; step: Step; attrs: RecurrentAttrs },
): void {
  const count = N * H;
  gpu().queue.launch({
    kernel,
    buffers: arrays.map((a) => operand(a).binding),
    params: {
      count,
      H,
      time: step.time,
      gx_at: step.time * count * RECURRENT_GATES[attrs.cell],
      kept_at: step.time * count * RECURRENT_KEPT[attrs.cell],
      before_at: step.before,
      after_at: step.after,
      y_at: step.time * count,
    },
    grid: linearGrid(count, gpu().limits.maxComputeWorkgroupsPerDimension),
    cost: { flops: count * 40, bytes: count * 4 * (4 + 3 * RECURRENT_GATES[attrs.cell]) },
  });
}

function total(a: DeviceArray, b: DeviceArray): DeviceArray {
  const both = DeviceArray.empty({ shape: [2, ...a.shape], dtype: "f32" }, "recurrent dh0");
  copyInto(a, at(both, a.shape, 0));
  copyInto(b, at(both, a.shape, a.size));
  return run(sum, [both], { dim: 0 });
}

function checkBindings(arrays: readonly DeviceArray[]): void {
  const limit = gpu().limits.maxStorageBufferBindingSize;
  for (const a of arrays) {
    if (a.bytes <= limit) continue;
    throw new RangeError(
      `Cannot run a recurrent layer with an array ${show(a.shape)}: it is over the ${mib(limit)} ` +
        "this adapter binds at once; run the batch or the time steps in parts",
    );
  }
}

function reference(inputs: readonly HostArray[], attrs: RecurrentAttrs): HostArray[] {
  const { gx, w, h0, c0, b, lengths } = named(inputs, attrs);
  const [T, N] = gx.shape as [number, number];
  const H = w.shape[1]!;
  const G = RECURRENT_GATES[attrs.cell];
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const y = hostZeros([T, N, H]);
  const hEnd = hostZeros([N, H]);
  const cEnd = hostZeros([N, H]);
  for (let n = 0; n < N; n++) {
    let h = Array.from(h0.data.subarray(n * H, (n + 1) * H));
    let c = c0 ? Array.from(c0.data.subarray(n * H, (n + 1) * H)) : [];
    for (let i = 0; i < T; i++) {
      const t = attrs.reverse ? T - 1 - i : i;
      if (lengths && t >= lengths.data[n]!) continue;
      const fromX = (k: number, j: number) => gx.data[((t * N + n) * G + k) * H + j]!;
      const fromH = (k: number, j: number) =>
        h.reduce((s, v, m) => s + v * w.data[(k * H + j) * H + m]!, b ? b.data[k * H + j]! : 0);
      const gate = (k: number, j: number) => fromX(k, j) + fromH(k, j);
      const state = { h: [...h], c: [...c] };
      for (let j = 0; j < H; j++) {
        if (attrs.cell === "lstm") {
          const cell = sigmoid(gate(1, j)) * c[j]! + sigmoid(gate(0, j)) * Math.tanh(gate(2, j));
          state.c[j] = cell;
          state.h[j] = sigmoid(gate(3, j)) * Math.tanh(cell);
        } else if (attrs.cell === "gru") {
          const z = sigmoid(gate(1, j));
          const fresh = Math.tanh(fromX(2, j) + sigmoid(gate(0, j)) * fromH(2, j));
          state.h[j] = (1 - z) * fresh + z * h[j]!;
        } else {
          state.h[j] = attrs.cell === "tanh" ? Math.tanh(gate(0, j)) : Math.max(gate(0, j), 0);
        }
      }
      ({ h, c } = state);
      y.data.set(h, (t * N + n) * H);
    }
    hEnd.data.set(h, n * H);
    cEnd.data.set(c, n * H);
  }
  return attrs.cell === "lstm" ? [y, hEnd, cEnd] : [y, hEnd];
}

function samples(): Sample<RecurrentAttrs>[] {
  const make = (
    cell: RecurrentCell,
    [T, N, H]: readonly [number, number, number],
    options: {
      reverse?: boolean;
      bias?: boolean;
      lengths?: readonly number[];
      positive?: boolean;
    } = {},
  ): Sample<RecurrentAttrs> => {
    const { reverse = false, bias = true, lengths, positive = false } = options;
    const G = RECURRENT_GATES[cell];
    // Where all is positive, states that f16 has rounded do not cancel.
    const state = { shape: [N, H], low: positive ? 0 : -1, high: 1 };
    // Sums well above 0 keep relu away from its kink.
    const gates = cell === "relu" ? { low: 1, high: 2 } : positive ? { low: 0 } : {};
    const small = { low: positive ? 0 : -0.5, high: 0.5 };
    const weights = cell === "relu" ? { low: -0.05, high: 0.05 } : small;
    return {
      inputs: [
        { shape: [T, N, G * H], ...gates },
        { shape: [G * H, H], ...weights },
        state,
        ...(cell === "lstm" ? [state] : []),
        ...(bias ? [{ shape: [G * H], ...small }] : []),
        ...(lengths ? [{ shape: [N], dtype: "i32" as const, values: lengths }] : []),
      ],
      attrs: { cell, reverse, bias, masked: lengths !== undefined },
      // A gate adds up H products, a weight's gradient T·N.
      terms: Math.max(1, T * (N + H)),
    };
  };
  return (["lstm", "gru", "tanh", "relu"] as const).flatMap((cell) => [
    make(cell, [1, 1, 1]),
    make(cell, [3, 2, 4]),
    make(cell, [4, 3, 2], { reverse: true, bias: false }),
    make(cell, [4, 5, 7], { lengths: [4, 1, 2, 3, 4] }),
    make(cell, [3, 6, 7], { reverse: true, lengths: [0, 3, 1, 2, 1, 3] }),
    // Small enough to be run in f16, too, with few terms that could cancel.
    make(cell, [3, 2, 3], { lengths: [3, 1], positive: true }),
    make(cell, [2, 3, 2], { reverse: true, lengths: [0, 2, 1], positive: true }),
    make(cell, [2, 0, 3]),
    make(cell, [2, 5, 13]),
  ]);
}
