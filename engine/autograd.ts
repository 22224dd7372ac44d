/**
 * The tape: which op made which tensor, and the walk back over it.
 *
 * Rules live with the ops and see one op each. This file alone accumulates gradients, sums what was
 * broadcast, and frees saved arrays.
 */

import { DeviceArray, inArena, type Spec } from "./array.ts";
import { type DType, isFloat } from "./dtype.ts";
import { afterBackward, inBackward, modulePath } from "./check.ts";
import { Mode } from "./mode.ts";
import { backwardOf, type ForwardContext, type Op, run } from "./op.ts";
import { isZero, putOff } from "./ops/chain.ts";
import { binary } from "./ops/pointwise.ts";
import { cast } from "./ops/select.ts";
import { fill } from "./ops/fill.ts";
import { copyInto } from "./ops/movement.ts";
import { sumIn } from "./ops/reduce.ts";
import { sameShape } from "./shape.ts";

/** A leaf that collects its gradient. */
export interface GradientSink {
  /** Adds `grad` to what was collected; takes the handle over. */
  accumulate(grad: DeviceArray): void;
}

/** Where an input's gradient goes: to the node that made it, or to a leaf. */
export type Edge =
  | { readonly node: Node; readonly output: number }
  | { readonly leaf: GradientSink };

let nextId = 1;
const recording = new Mode<boolean>(true);

/** True while ops on tensors that require gradients are recorded. */
export function isRecording(): boolean {
  return recording.value;
}

/**
 * Runs `fn` without recording: results do not require gradients. Of an async function it holds until its
 * promise settles, also for other code that runs meanwhile.
 *
 * @example
 * ```ts
 * import { init, noGrad, tensor } from "../mod.ts";
 * await init();
 * const w = tensor([1, 2], { requiresGrad: true });
 * const y = noGrad(() => w.mul(2));
 * console.log(y.requiresGrad); // false
 * ```
 */
export function noGrad<T>(fn: () => T): T {
  return recording.during(false, fn);
}

/** Runs `fn` with recording on, inside `noGrad` too. Holds as long as {@linkcode noGrad} does. */
export function enableGrad<T>(fn: () => T): T {
  return recording.during(true, fn);
}

/** One recorded op. Lives as long as a tensor or a later node refers to it. */
export class Node {
  readonly id = nextId++;
  readonly op: Op<unknown>;
  readonly attrs: unknown;
  readonly edges: readonly (Edge | null)[];
  readonly inputs: readonly Spec[];
  readonly outputs: readonly Spec[];
  #saved: DeviceArray[] | null;
  readonly #versions: readonly number[];
  /** Path of the modules it was made in. */
  readonly where: string = modulePath();
  #references = 0;

  constructor(
    op: Op<unknown>,
    recorded: {
      attrs: unknown;
      edges: readonly (Edge | null)[];
      inputs: readonly Spec[];
      outputs: readonly Spec[];
      saved: DeviceArray[];
    },
  ) {
    this.op = op;
    this.attrs = recorded.attrs;
    this.edges = recorded.edges;
    this.inputs = recorded.inputs.map(({ shape, dtype }) => ({ shape, dtype }));
    this.outputs = recorded.outputs;
    this.#saved = recorded.saved;
    this.#versions = recorded.saved.map((a) => a.storage.version);
    for (const edge of this.edges) if (edge && "node" in edge) edge.node.retain();
  }

  /** Adds a reference. */
  retain(): void {
    this.#references++;
  }

  /** Gives a reference up; the last one frees what was saved, and so on up the graph. */
  release(): void {
    const dead: Node[] = [this];
    while (dead.length > 0) {
      const node = dead.pop()!;
      if (--node.#references > 0) continue;
      node.#free();
      for (const edge of node.edges) if (edge && "node" in edge) dead.push(edge.node);
    }
  }

  /** Frees what was saved. A node that saved nothing may be walked through again, as in PyTorch. */
  #free(): void {
    if (!this.#saved?.length) return;
    for (const array of this.#saved) array.release();
    this.#saved = null;
  }

  /**
   * What the forward rule saved.
   *
   * @throws {Error} if a walk has freed it, or it was changed since
   */
  get saved(): readonly DeviceArray[] {
    const saved = this.#saved;
    if (!saved) {
      throw new Error(
        `Cannot run backward through ${this.op.name} a second time: its saved tensors were freed; ` +
          "call the first backward with { retainGraph: true }",
      );
    }
    const changed = saved.find((a, i) => a.storage.version !== this.#versions[i]);
    if (changed) {
      throw new Error(
        `Cannot run backward through ${this.op.name}: a tensor [${
          changed.shape.join(", ")
        }] it saved ` +
          "was changed in place; change it after backward, or clone() it first",
      );
    }
    return saved;
  }

  /** The dtype of the gradient that the walk should bring for an output of `dtype`. */
  wantedFor(dtype: DType): DType {
    // A conversion's gradient is converted back, so it may as well stay f32 where it is to become that.
    const from = this.inputs[0]?.dtype;
    return this.op.name === cast.name && from === "f32" && isFloat(dtype) ? from : dtype;
  }

  /**
   * Gradients of the inputs, summed down to their shapes; new handles.
   *
   * @param options.retain whether what was saved stays for another walk
   * @param options.exact tells edges whose gradient must have the dtype of the input
   * @param options.asked tells edges whose gradient is of use
   */
  backward(
    grads: readonly (DeviceArray | null)[],
    { retain, exact, asked }: {
      retain: boolean;
      exact: (edge: Edge) => boolean;
      asked: (edge: Edge) => boolean;
    },
  ): (DeviceArray | null)[] {
    const { saved } = this;
    const wanted = this.inputs.map(({ dtype }, i) => {
      const edge = this.edges[i];
      if (!edge || !asked(edge)) return null;
      return "node" in edge && !exact(edge) ? edge.node.wantedFor(dtype) : dtype;
    });
    const rule = () =>
      inArena(() => {
        const ctx = {
          needs: this.edges.map((e) => e !== null),
          saved,
          inputs: this.inputs,
          wanted,
        };
        const rule = backwardOf(this.op)!;
        return putOff(() => {
          const results = "partial" in rule
            ? rule.partial(ctx, grads, this.attrs)
            : rule(ctx, grads.map((g, i) => g ?? fill(this.outputs[i]!, 0)), this.attrs);
          return results.map((g, i) =>
            g && wanted[i] ? likeInput(g, this.inputs[i]!.shape, wanted[i]) : null
          );
        });
      });
    const result = inBackward(this.where, rule);
    if (!retain) this.#free();
    afterBackward(this.op.name, result, this.where);
    return result;
  }
}

/** Sums the dimensions that broadcasting repeated, and converts to the dtype that is wanted. */
export function likeInput(grad: DeviceArray, shape: readonly number[], dtype: DType): DeviceArray {
  let g = grad;
  if (!sameShape(g.shape, shape)) {
    const lead = g.shape.length - shape.length;
    const dims = g.shape.map((_, d) => d).filter((d) =>
      d < lead || (shape[d - lead] === 1 && g.shape[d] !== 1)
    );
    g = sumIn(g, { dim: dims, keepdim: true, dtype });
    const strides = g.strides.slice(lead);
    g = g.view(shape, strides);
  }
  return g.dtype === dtype ? g : run(cast, [g], { dtype });
}

/** Runs a forward rule in an arena of its own and collects what it saves. */
export function runForward<A>(
  op: Op<A>,
  inputs: readonly DeviceArray[],
  attrs: A,
  out: readonly Spec[],
  needs: readonly boolean[],
): { outputs: readonly DeviceArray[]; saved: DeviceArray[] } {
  const saved: DeviceArray[] = [];
  const record = needs.some(Boolean);
  const outputs = inArena((keep) => {
    const ctx: ForwardContext = {
      needs,
      save(...arrays) {
        if (!record) return;
        for (const array of arrays) {
          const handle = array.alias();
          keep(handle);
          saved.push(handle);
        }
      },
    };
    return op.forward(ctx, inputs, attrs, out);
  });
  return { outputs: outputs as readonly DeviceArray[], saved };
}

/** A gradient that starts a walk. */
export interface Root<G = DeviceArray> {
  readonly edge: Edge;
  readonly grad: G;
}

/** What a walk does with gradients: arrays, or tensors whose making is recorded in turn. */
export interface Walk<G> {
  /** Where the walk ends at this edge, as at every leaf: takes the gradient over and gives true. */
  arrive(edge: Edge, grad: G): boolean;
  /** The gradients of a node's inputs. */
  back(node: Node, grads: readonly (G | null)[]): (G | null)[];
  /** Takes both over. */
  add(a: G, b: G): G;
  release(grad: G): void;
  /** Nodes to walk through; all by default. */
  readonly through?: ReadonlySet<Node>;
}

/** Walks back from `roots`, whose gradients it takes over, newest node first. */
export function walk<G>(roots: readonly Root<G>[], steps: Walk<G>): void {
  const pending = new Map<Node, (G | null)[]>();
  const queue: Node[] = [];
  const deliver = (edge: Edge, grad: G) => {
    if (steps.arrive(edge, grad) || "leaf" in edge) return;
    if (steps.through?.has(edge.node) === false) {
      steps.release(grad);
      return;
    }
    let slots = pending.get(edge.node);
    if (!slots) {
      slots = new Array(edge.node.outputs.length).fill(null);
      pending.set(edge.node, slots);
      insert(queue, edge.node);
    }
    const before = slots[edge.output];
    slots[edge.output] = before ? steps.add(before, grad) : grad;
  };
  for (const root of roots) deliver(root.edge, root.grad);
  try {
    while (queue.length > 0) {
      const node = queue.pop()!;
      const grads = pending.get(node)!;
      pending.delete(node);
      let results: (G | null)[] = [];
      try {
        results = steps.back(node, grads);
        grads.forEach((g, i) => {
          grads[i] = null;
          if (g) steps.release(g);
        });
        // Sums of gradients, and what was put off until now, are the node's work, too.
        inBackward(node.where, () =>
          results.forEach((g, i) => {
            results[i] = null;
            if (g) deliver(node.edges[i]!, g);
          }));
      } finally {
        for (const g of grads) if (g) steps.release(g);
        for (const g of results) if (g) steps.release(g);
      }
    }
  } finally {
    for (const slots of pending.values()) for (const g of slots) if (g) steps.release(g);
  }
}

/**
 * Walks back from `roots` and hands each leaf its gradient.
 *
 * @param options.collect gradients to keep on the way, by edge; leaves then collect nothing, and an edge for
 *   which it returns true is not walked through
 * @param options.exact edges whose gradient must have the dtype of the input
 * @param options.through nodes to walk through, besides which only what is exact is asked for; all by default
 */
export function walkBack(
  roots: readonly Root[],
  options: {
    retainGraph: boolean;
    collect?: (edge: Edge, grad: DeviceArray) => boolean | void;
    exact?: (edge: Edge) => boolean;
    through?: ReadonlySet<Node>;
  },
): void {
  const { collect, retainGraph: retain, exact = () => false, through } = options;
  const asked = (edge: Edge) =>
    !through || exact(edge) || ("node" in edge && through.has(edge.node));
  walk(roots, {
    arrive(edge, grad) {
      const ends = collect?.(edge, grad) === true || "leaf" in edge;
      if (!ends) return false;
      if (collect) grad.release();
      else (edge as { leaf: GradientSink }).leaf.accumulate(grad);
      return true;
    },
    back: (node, grads) => node.backward(grads, { retain, exact, asked }),
    add: (a, b) => putOff(() => sumOf(a, b)),
    release: (grad) => grad.release(),
    through,
  });
}

/** The nodes behind `edges` from which a chosen edge can be reached. */
export function nodesToward(
  edges: readonly Edge[],
  chosen: (edge: Edge) => boolean,
): ReadonlySet<Node> {
  const found = new Set<Node>();
  const rest = [...edges];
  while (rest.length > 0) {
    const edge = rest.pop()!;
    if ("leaf" in edge || found.has(edge.node)) continue;
    found.add(edge.node);
    for (const next of edge.node.edges) if (next) rest.push(next);
  }
  const leading = new Set<Node>();
  // Edges lead to nodes that were made earlier.
  for (const node of [...found].sort((a, b) => a.id - b.id)) {
    const leads = node.edges.some((e) =>
      e !== null && (chosen(e) || ("node" in e && leading.has(e.node)))
    );
    if (leads) leading.add(node);
  }
  return leading;
}

/** a + b; both handles are given up. Nothing is added where one is known to be 0. */
function sumOf(a: DeviceArray, b: DeviceArray): DeviceArray {
  const [zero, other] = isZero(a) ? [a, b] : [b, a];
  if (!isZero(zero)) return addAndRelease(a, b);
  zero.release();
  return other;
}

/** a + b in a new array; both handles are given up. */
export function addAndRelease(a: DeviceArray, b: DeviceArray): DeviceArray {
  const total = inArena(() => run(binary.add, [a, b], {}));
  a.release();
  b.release();
  return total;
}

/** a += b, in place; gives b up. */
export function addInto(a: DeviceArray, b: DeviceArray): void {
  inArena(() => (copyInto(run(binary.add, [a, b], {}), a), []));
  a.storage.version++;
  b.release();
}

/** The gradient as a leaf keeps it: contiguous and not shared with anything. */
export function ownGradient(grad: DeviceArray): DeviceArray {
  if (grad.contiguous && grad.offset === 0 && grad.storage.references === 1) return grad;
  const own = inArena(() => run(cast, [grad], { dtype: grad.dtype }));
  grad.release();
  return own;
}

/** Keeps `queue` sorted by id, so that a node is popped after all later ones. */
function insert(queue: Node[], node: Node): void {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (queue[mid]!.id < node.id) low = mid + 1;
    else high = mid;
  }
  queue.splice(low, 0, node);
}
