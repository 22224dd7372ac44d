/** Gradients besides `backward`: of chosen tensors, with recomputed activations, checked for NaN. */

import { checkWalk, given } from "./arguments.ts";
import type { DeviceArray } from "./array.ts";
import {
  addAndRelease,
  type Edge,
  enableGrad,
  isRecording,
  Node,
  nodesToward,
  noGrad,
  ownGradient,
  type Root,
  walkBack,
} from "./autograd.ts";
import { autocast, isAutocasting } from "./autocast.ts";
import { failedChecks, inModule, modulePath } from "./check.ts";
import { isFloat } from "./dtype.ts";
import { debug, setDebug } from "./gpu/debug.ts";
import type { BackwardRule, Op } from "./op.ts";
import { cast } from "./ops/select.ts";
import { rngState, setRngState } from "./rng.ts";
import { ones } from "./creation.ts";
import { recordedGradients } from "./double/walk.ts";
import { scope, tidy } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { checkStart, startOf, Tensor } from "./tensor.ts";
import { trace, traceCall } from "./trace.ts";

/** Options of {@linkcode grad}. */
export interface GradOptions {
  /** The gradient each output starts from; 1 for outputs of one element. */
  gradOutputs?: readonly (Tensor | null)[];
  /** Keeps what the graph saved, for another walk; default false, but true with `createGraph`. */
  retainGraph?: boolean;
  /**
   * Records how the gradients are made, so that they can be part of a loss and have gradients, of any order;
   * default false. What both passes made is kept as long as the results.
   */
  createGraph?: boolean;
  /** Gives null for inputs that no output depends on, instead of throwing; default false. */
  allowUnused?: boolean;
}

/** Sums of the gradients that arrive at chosen edges. */
class Collector {
  readonly #places = new Map<object, Map<number, number>>();
  readonly sums: (DeviceArray | null)[] = [];

  /** Number of the edge; the same edge has the same number. */
  add(edge: Edge): number {
    const [owner, output] = keyOf(edge);
    const outputs = this.#places.get(owner) ?? new Map<number, number>();
    this.#places.set(owner, outputs);
    const known = outputs.get(output);
    if (known !== undefined) return known;
    outputs.set(output, this.sums.length);
    return this.sums.push(null) - 1;
  }

  /** The number of an edge that was chosen. */
  placeOf(edge: Edge): number | undefined {
    const [owner, output] = keyOf(edge);
    return this.#places.get(owner)?.get(output);
  }

  /** Adds a gradient if its edge was chosen; true if so. */
  collect(edge: Edge, grad: DeviceArray): boolean {
    const place = this.placeOf(edge);
    if (place === undefined) return false;
    const before = this.sums[place];
    this.sums[place] = before ? addAndRelease(before, grad.alias()) : grad.alias();
    return true;
  }
}

function keyOf(edge: Edge): [object, number] {
  return "node" in edge ? [edge.node, edge.output] : [edge.leaf, 0];
}

/**
 * d (Σ outputs · gradOutputs) / d input for each input, without touching any tensor's `grad`. Inputs may
 * be leaves or computed tensors. Parts of the graph that lead to no input are not walked through, and keep
 * what they saved.
 *
 * With `createGraph` the gradients are tensors with a history of their own: a penalty on a gradient, a
 * Hessian times a vector, an update of weights that is trained through.
 *
 * @throws {TypeError} if an output or input requires no gradient, a gradOutput is missing or mis-shaped,
 *   or no output depends on an input (unless allowUnused)
 * @throws {Error} with createGraph, at an op that has no gradient of its gradient: biTemperedLogisticLoss
 *
 * @example
 * ```ts
 * import { grad, init, tensor } from "../mod.ts";
 * await init();
 * const x = tensor([1, 2, 3], { requiresGrad: true });
 * const [dx] = grad(x.square().sum(), x);
 * console.log(await dx!.array(), x.grad); // [2, 4, 6] null
 *
 * const [slope] = grad(x.pow(3).sum(), x, { createGraph: true });
 * slope!.sum().backward(); // d/dx of 3x²
 * console.log(await x.grad!.array()); // [6, 12, 18]
 * ```
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  const right = "grad(y, x, { gradOutputs: [seed] })";
  checkWalk("take gradients", options, right, [
    "gradOutputs",
    "retainGraph",
    "createGraph",
    "allowUnused",
  ]);
  const from = outputs instanceof Tensor ? [outputs] : outputs;
  const to = inputs instanceof Tensor ? [inputs] : inputs;
  const { gradOutputs = [], retainGraph = false, allowUnused = false } = options;
  if (!Array.isArray(gradOutputs)) {
    throw new TypeError(
      `Cannot take gradients with gradOutputs ${given(gradOutputs)}: write ${right}`,
    );
  }
  if (gradOutputs.length > from.length) {
    throw new TypeError(
      `Cannot take gradients of ${from.length} outputs with ${gradOutputs.length} gradOutputs: ` +
        "give at most one each",
    );
  }
  to.forEach((t, i) => {
    if (t.requiresGrad) return;
    throw new TypeError(`Cannot take the gradient of input ${i}: it requires no gradient`);
  });
  if (options.createGraph) return recordedGrad(from, to, gradOutputs, allowUnused);
  const collector = new Collector();
  const places = to.map((t) => collector.add(t.edge()));
  const roots: Root[] = [];
  try {
    for (const [i, t] of from.entries()) {
      roots.push({ edge: t.edge(), grad: startOf(t, gradOutputs[i] ?? undefined) });
    }
    walkBack(roots.splice(0), {
      retainGraph,
      collect(edge, array) {
        collector.collect(edge, array);
      },
      exact: (edge) => collector.placeOf(edge) !== undefined,
      through: nodesToward(
        from.map((t) => t.edge()),
        (edge) => collector.placeOf(edge) !== undefined,
      ),
    });
  } catch (error) {
    for (const { grad } of roots) grad.release();
    for (const sum of collector.sums) sum?.release();
    throw error;
  }
  const unused = places.findIndex((place) => collector.sums[place] === null);
  if (unused >= 0 && !allowUnused) {
    for (const sum of collector.sums) sum?.release();
    throw unusedInput(to, unused);
  }
  const results = places.map((place, i) => {
    const sum = collector.sums[place];
    if (!sum) return null;
    // An input that is given again needs a gradient of its own; the last one takes the sum itself.
    if (places.includes(place, i + 1)) return new Tensor(ownGradient(sum.alias()));
    collector.sums[place] = null;
    return new Tensor(ownGradient(sum));
  });
  for (const sum of collector.sums) sum?.release();
  return results;
}

function unusedInput(to: readonly Tensor[], i: number): TypeError {
  return new TypeError(
    `Cannot take the gradient of input ${i} ${show(to[i]!.shape)}: no output depends on it; ` +
      "allowUnused gives null for it",
  );
}

/** The gradients with a history of their own. */
function recordedGrad(
  from: readonly Tensor[],
  to: readonly Tensor[],
  seeds: readonly (Tensor | null)[],
  allowUnused: boolean,
): (Tensor | null)[] {
  from.forEach((t, i) => checkStart(t, seeds[i] ?? undefined));
  return tidy(() => {
    const sums = recordedGradients(
      from,
      enableGrad(() => from.map((t, i) => seeds[i]?.to("f32") ?? ones(t.shape))),
      to,
    );
    const unused = sums.indexOf(null);
    if (unused >= 0 && !allowUnused) throw unusedInput(to, unused);
    // A tensor each, also where it is a seed or an input is given twice.
    return sums.map((sum, i) => sum && enableGrad(() => sum.reshape(sum.shape).to(to[i]!.dtype)));
  });
}

/** What {@linkcode checkpoint} does again, for walks back that are recorded as well. */
export interface CheckpointAttrs {
  /** The outputs from the inputs, with the random numbers of the first time. */
  again(leaves: readonly Tensor[]): readonly Tensor[];
  /** What else gets gradients. */
  readonly others: readonly Tensor[];
}

/**
 * fn(...inputs) without keeping what its backward needs: backward runs fn again, drawing the same
 * random numbers, and frees it at once. Trades one more forward pass for memory.
 *
 * Gradients reach the inputs and every other tensor that fn uses, such as a module's parameters. fn
 * must be a function of its inputs: what else it changes (batch statistics) is changed twice, and it
 * must not use a tensor that is freed by then.
 *
 * @throws {TypeError} if fn is async or returns something else than tensors
 *
 * Source: Chen et al., "Training deep nets with sublinear memory cost", 2016,
 * https://arxiv.org/abs/1604.06174
 *
 * @example
 * ```ts
 * import { checkpoint, init, randn } from "../mod.ts";
 * await init();
 * const x = randn([4, 8], { requiresGrad: true });
 * checkpoint((t) => t!.exp().tanh().square(), x).sum().backward();
 * console.log(x.grad!.shape); // [4, 8]
 * ```
 */
export function checkpoint<T extends Tensor | readonly Tensor[]>(
  fn: (...inputs: Tensor[]) => T,
  ...inputs: Tensor[]
): T {
  if (!isRecording()) return fn(...inputs);
  const start = rngState();
  const where = modulePath();
  const casting = isAutocasting();
  const used = new Set<Tensor>();
  const made = new Set<Tensor>();
  /** The inputs by what the function gets for them: it may use them from outside as well, as a shortcut. */
  const given = new Map<Tensor, Tensor>();
  const result = scope(() => {
    const handed = inputs.map((t) => {
      const own = new Tensor(t.device.alias(), { requiresGrad: t.requiresGrad });
      given.set(own, t);
      traceSame(t, own);
      return own;
    });
    return noGrad(() =>
      trace(() => fn(...handed), (call) => {
        for (const t of call.inputs) if (t.requiresGrad) used.add(t);
        for (const t of call.outputs) made.add(t);
      })
    );
  });
  const list = listOf(result);
  for (const t of list) if (t.requiresGrad) used.add(t);
  const others = [...used].filter((t) => !given.has(t));
  /** What the function returned as it got it. */
  const handedBack = (t: Tensor): Tensor => {
    return given.get(t) ?? t;
  };
  const freeHanded = () => {
    for (const t of given.keys()) t.dispose();
  };
  if (used.size === 0 || !list.some((t) => isFloat(t.dtype))) {
    const plain = list.map(handedBack);
    freeHanded();
    return (result instanceof Tensor ? plain[0] : plain) as unknown as T;
  }

  const shapes = list.map((t) => t.shape);
  const again = (leaves: readonly Tensor[]): readonly Tensor[] => {
    const now = rngState();
    try {
      setRngState(start);
      const run = () => autocast({ enabled: casting }, () => enableGrad(() => fn(...leaves)));
      const made = listOf(inPath(where, run));
      if (made.length !== shapes.length || made.some((t, i) => !sameShape(t.shape, shapes[i]!))) {
        throw new Error(
          "Cannot run backward through checkpoint: the function returned other shapes than at first",
        );
      }
      return made;
    } finally {
      setRngState(now);
    }
  };
  const rule: BackwardRule<CheckpointAttrs> = (ctx, grads, { again }) =>
    scope(() => {
      const leaves = inputs.map((_, i) =>
        new Tensor(ctx.saved[i]!.alias(), { requiresGrad: ctx.needs[i] })
      );
      return gradients(again(leaves), grads, [
        ...leaves.map((t, i) => ctx.needs[i] ? t.edge() : null),
        ...others.map((t) => t.edge()),
      ]);
    });
  const node = new Node(asOp(rule as BackwardRule<unknown>), {
    attrs: { again, others } satisfies CheckpointAttrs,
    edges: [
      ...inputs.map((t) => t.requiresGrad ? t.edge() : null),
      ...others.map((t) => t.edge()),
    ],
    inputs: [...inputs, ...others].map((t) => t.device),
    outputs: list.map(({ shape, dtype }) => ({ shape, dtype })),
    saved: inputs.map((t) => t.device.alias()),
  });
  const wrapped = list.map((t, output) => {
    if (!isFloat(t.dtype)) return handedBack(t);
    const wrapper = new Tensor(t.device.alias(), { source: { node, output } });
    traceSame(t, wrapper);
    if (made.has(t)) t.dispose();
    return wrapper;
  });
  freeHanded();
  return (result instanceof Tensor ? wrapped[0] : wrapped) as unknown as T;
}

/** Tells who listens that `to` has the values of `from`. */
function traceSame(from: Tensor, to: Tensor): void {
  traceCall({
    op: cast as Op<unknown>,
    attrs: { dtype: from.dtype },
    inputs: [from],
    outputs: [to],
  });
}

function listOf(result: unknown): readonly Tensor[] {
  const list = result instanceof Tensor ? [result] : result;
  if (!Array.isArray(list) || !list.every((t) => t instanceof Tensor)) {
    throw new TypeError("Cannot checkpoint: the function must return a tensor or an array of them");
  }
  return list;
}

/** Gradients at `edges` of the recomputed outputs, walking no further than them. */
function gradients(
  outputs: readonly Tensor[],
  grads: readonly DeviceArray[],
  edges: readonly (Edge | null)[],
): (DeviceArray | null)[] {
  const collector = new Collector();
  const places = edges.map((edge) => edge && collector.add(edge));
  const roots: Root[] = outputs.flatMap((t, i) =>
    t.requiresGrad ? [{ edge: t.edge(), grad: grads[i]!.alias() }] : []
  );
  walkBack(roots, {
    retainGraph: false,
    collect(edge, array) {
      if (collector.collect(edge, array)) return true;
      if ("leaf" in edge) {
        throw new Error(
          "Cannot run backward through checkpoint: the function used a tensor that it did not use " +
            "at first",
        );
      }
    },
    exact: (edge) => collector.placeOf(edge) !== undefined,
  });
  return places.map((place) => place === null ? null : collector.sums[place]!);
}

function inPath<T>(path: string, fn: () => T): T {
  return path === "" ? fn() : inModule(path, fn);
}

/** A record for the tape alone: it is run by `checkpoint`, not by `apply`. */
function asOp(backward: BackwardRule<unknown>): Op<unknown> {
  return {
    name: "checkpoint",
    check: () => [],
    forward: () => [],
    backward,
    reference: null,
    samples: [],
  };
}

/**
 * Runs `fn` and throws if a backward pass inside gave a gradient that is not finite, naming the op,
 * the module it ran in and the element. Forward values may be NaN or Inf (a mask of -Inf). Copies
 * every gradient: for the search for a fault, not for training.
 *
 * @throws {CheckError} at the first gradient, in the order of backward, with a NaN or Inf
 *
 * @example
 * ```ts
 * import { detectAnomaly, init, tensor } from "../mod.ts";
 * await init();
 * const x = tensor([0, 1], { requiresGrad: true });
 * await detectAnomaly(() => x.sqrt().sum().backward())
 *   .catch((error) => console.log(error.message)); // Gradient of sqrt: input 0 [2] is Infinity at [0], …
 * ```
 */
export async function detectAnomaly<T>(fn: () => T | Promise<T>): Promise<T> {
  const before = debug().check;
  if (before !== "nan") setDebug({ check: "anomaly" });
  try {
    const result = await fn();
    await failedChecks();
    return result;
  } finally {
    setDebug({ check: before });
    // Copies are left if fn threw.
    await failedChecks().catch(() => {});
  }
}
