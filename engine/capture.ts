/**
 * A whole step recorded once and replayed: the dispatches of forward, backward and update are encoded
 * again in one pass and one submit, and none of the JavaScript between them runs.
 */

import { given } from "./arguments.ts";
import { type DeviceArray, inArena } from "./array.ts";
import { debug } from "./gpu/debug.ts";
import { gpu, openGpu } from "./gpu/device.ts";
import {
  type FieldsSeen,
  type GradientStart,
  type Graph,
  GraphRecorder,
  type SettingSeen,
} from "./gpu/graph.ts";
import type { Storage } from "./gpu/storage.ts";
import { copyOf } from "./ops/launch_pointwise.ts";
import { copyInto } from "./ops/movement.ts";
import { isAutocasting } from "./autocast.ts";
import { isRecording, noGrad } from "./autograd.ts";
import { raiseBase } from "./ops/random.ts";
import { baseRaised, rngState, shiftCalls } from "./rng.ts";
import { keep, scope } from "./scope.ts";
import { settingChanges } from "./setting.ts";
import { show } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { type TensorBase, wrapTensor } from "./tensor_base.ts";

/** What a captured function may give: tensors, in arrays and objects. */
export type CapturedResult = void | Tensor | readonly CapturedResult[] | {
  readonly [name: string]: CapturedResult;
};

/** A function that {@linkcode capture} made. */
export interface Captured<A extends readonly Tensor[], R extends CapturedResult> {
  /** Runs or replays the step; the results are new tensors each time. */
  (...inputs: A): R;
  /** Graphs recorded so far: for each set of input shapes, of modes, and what gradients there were. */
  readonly graphs: number;
  /** Dispatches of the graph for the inputs last given; 0 before there is one. */
  readonly dispatches: number;
  /** Bytes that the graphs hold for themselves. */
  readonly bytes: number;
  /** Frees the graphs; a later call records anew. */
  dispose(): void;
}

/** A recorded step with the tensors it reads from and writes to. */
interface Recording<R> {
  readonly graph: Graph;
  readonly inputs: readonly Tensor[];
  readonly outputs: R;
  /** Random calls: the first one's number, and how many. */
  readonly firstCall: number;
  readonly calls: number;
  /** Whether it made state that a replay must not make again. */
  readonly makesState: boolean;
  /** Done before each replay. */
  readonly before: ReadonlySet<() => void>;
  /** Gradients that it leaves behind. */
  readonly gradients: readonly Gradient[];
  /** What must hold for it to be replayed. */
  readonly conditions: ReadonlyMap<object, () => boolean>;
  /** Settings that it depends on. */
  readonly settings: readonly SettingSeen[];
  /** Fields of the modules that ran, but for those that it sets itself. */
  readonly fields: readonly FieldsSeen[];
  /** Whether the settings are as they were, when the number of changes was `at`. */
  asTheyWere: { at: number; so: boolean };
}

/** The gradient that a step leaves at a leaf. */
interface Gradient {
  readonly leaf: TensorBase;
  readonly start: GradientStart;
  /** What the step adds to, or reads. */
  readonly before?: Storage;
  /** The gradient that the step reads: the one that there is goes into its memory before each replay. */
  readonly source?: DeviceArray;
  /** Null where the step drops it, undefined where it is still the one that was there. */
  readonly array: DeviceArray | null | undefined;
}

/** Graphs kept for inputs of the same shapes, which differ in modes and the gradients that there are when they begin. */
const MOST_GRAPHS = 8;

/** Frees graphs of captured functions that nobody can call any more. */
const forgotten = new FinalizationRegistry<Map<string, Recording<CapturedResult>[]>>(
  (recordings) => {
    for (const recording of [...recordings.values()].flat()) drop(recording);
  },
);

/**
 * Records `fn` and replays it. It is called for the first two calls with inputs of some shapes: in the first
 * optimizers make their state, the second is kept. Later calls replay that: the inputs are copied in and
 * all dispatches submitted at once. The numbers are bit for bit those of plain calls; what `fn` returns are
 * constants, without a gradient.
 *
 * `fn` works on copies of the inputs, so what it writes into them is not seen outside. No dispatch runs before
 * `fn` has returned, not in the first calls either. By then it is known which
 * dispatches need which tensors, so memory is shared by all that are never needed at the same time, whatever
 * scope they were made in, and what nobody can see is not computed. If `fn` throws, what it did before runs,
 * as it would have in a plain call.
 *
 * What `fn` does in JavaScript happens only in the first two calls: it must take everything that changes as input
 * tensors, or keep it in GPU memory, as optimizers, schedulers, dropout, batch statistics and `GradScaler` do. Call
 * `scheduler.step()` outside.
 *
 * Other input shapes make another graph, and so do other modes: modules in `train()` or `eval()`, parameters that
 * are frozen, an optimizer's groups, `autocast` and `noGrad` around the call, and other values in the fields of modules
 * whose `forward` ran: a dropout's `p`, a factor, another layer in the place of one, but not private `#fields`. Up to
 * eight earlier graphs of the same shapes are kept. Replays use the tensors that were there when the graph was
 * recorded. Once one of them is freed, as by loading an optimizer's state that lacks some, the step is recorded anew.
 *
 * Gradients that the step leaves behind are in the leaves' `grad` after each call. A step that adds to those that
 * there are is a graph of its own, so one can be captured that accumulates over several calls. They lie in memory
 * of the graph: a view of one from an earlier call changes with it, so clone() what is to last. A step may read
 * those that the call before left, as by updating first: so does one that begins with `step()`.
 *
 * @throws {TypeError} if an input is no tensor or requires a gradient, `fn` is async, or it returns something other than
 *   tensors, arrays and plain objects
 * @throws {Error} if `fn` seeds the generator or captures inside; a tensor that it reads back rejects
 *
 * @example
 * ```ts
 * import { capture, crossEntropy, init, nn, randint, randn } from "../mod.ts";
 * await init();
 * const model = new nn.Linear(8, 3);
 * const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1 });
 * const step = capture((x, y) => {
 *   optimizer.zeroGrad();
 *   const loss = crossEntropy(model.forward(x), y);
 *   loss.backward();
 *   optimizer.step();
 *   return { loss: loss.detach() };
 * });
 * for (let i = 0; i < 5; i++) {
 *   const { loss } = step(randn([16, 8]), randint(0, 3, { shape: [16] }));
 *   console.log(await loss.item());
 * }
 * ```
 */
export function capture<A extends readonly Tensor[], R extends CapturedResult>(
  fn: (...inputs: A) => R,
): Captured<A, R> {
  const ran = new Set<string>();
  const recordings = new Map<string, Recording<R>[]>();
  let last: Recording<R> | undefined;
  const often = { calls: 0, forFields: 0, said: false };

  function call(...inputs: A): R {
    if (gpu().queue.recorder) {
      throw new Error("Cannot capture inside a captured function: call the inner one plainly");
    }
    for (const [i, t] of inputs.entries()) {
      if (!(t instanceof Tensor)) {
        throw new TypeError(
          `Cannot call a captured function with ${given(t)} as input ${i}: it must be a tensor, ` +
            "which replays can copy in",
        );
      }
      if (t.requiresGrad) {
        throw new TypeError(
          `Cannot capture with input ${i} ${
            show(t.shape)
          } that requires a gradient: detach() it; ` +
            "parameters are used from inside the function",
        );
      }
    }
    const copied = () => inputs.map(copyOfTensor) as unknown as A;
    // Checks look at each op as it runs, and a replay runs none.
    if (debug().check !== "off") return scope(() => called(fn, copied(), copyOfTensor));
    const modes = `${isAutocasting()},${isRecording()}`;
    const key = [modes, ...inputs.map((t) => `${t.dtype}${t.shape.join(",")}`)].join(";");
    const known = recordings.get(key) ?? [];
    for (const recording of known.filter(({ graph }) => graph.isStale(gpu().pool))) {
      drop(recording);
      known.splice(known.indexOf(recording), 1);
    }
    often.calls++;
    const fitting = known.find(fits);
    if (fitting) {
      last = fitting;
      return replay(fitting, inputs);
    }
    sayIfOften(often, known.at(-1));
    const again = ran.has(key);
    const own = copied().map((t) => keep(t));
    let kept = false;
    try {
      const recording = record(fn, own);
      const result = scope(() => run(recording));
      ran.add(key);
      kept = again && !recording.makesState;
      if (kept) {
        if (known.length === MOST_GRAPHS) drop(known.shift()!);
        recordings.set(key, [...known, last = recording]);
      } else free(recording);
      return result;
    } finally {
      if (!kept) { for (const t of own) t.dispose(); }
    }
  }

  function all(): Recording<R>[] {
    return [...recordings.values()].flat();
  }

  function dispose(): void {
    for (const recording of all()) drop(recording);
    recordings.clear();
    ran.clear();
    last = undefined;
  }

  // The registry must not hold the function: nothing in the recordings refers to it.
  forgotten.register(call, recordings as Map<string, Recording<CapturedResult>[]>);
  return Object.defineProperties(Object.assign(call, { dispose }), {
    graphs: { get: () => all().length },
    dispatches: { get: () => last?.graph.commands.length ?? 0 },
    bytes: { get: () => all().reduce((n, r) => n + bytesOf(r), 0) },
  }) as Captured<A, R>;
}

/** Says once that most calls record anew, and which field is why: this is slower than plain calls. */
function sayIfOften<R extends CapturedResult>(
  often: { calls: number; forFields: number; said: boolean },
  latest: Recording<R> | undefined,
): void {
  const field = latest && changedField(latest);
  if (!field || often.said) return;
  often.forFields++;
  if (often.forFields < MOST_GRAPHS || 2 * often.forFields < often.calls) return;
  often.said = true;
  debug().write(
    `A captured step was recorded ${often.forFields} times in ${often.calls} calls because ${field} changes: ` +
      "a graph is for the values that the fields of its modules had. What changes from call to call is replayed " +
      "as an input tensor, and a private #field, such as a counter, is not compared",
  );
}

/**
 * Takes the step down with `inputs`, without running it. A step that fails is run up to where it failed, as
 * a plain call would.
 */
function record<A extends readonly Tensor[], R extends CapturedResult>(
  fn: (...inputs: A) => R,
  inputs: readonly Tensor[],
): Recording<R> {
  const { queue, pool } = gpu();
  const recorder = new GraphRecorder(queue, pool);
  const firstCall = rngState().calls;
  let calls = 0;
  let outputs: R;
  const gradients: Gradient[] = [];
  try {
    outputs = recorder.record(() => {
      // Tensors of the recording's own: what the function returns may be the caller's.
      const result = scope(() => called(fn, inputs as unknown as A, (t) => t.detach()));
      for (const t of tensorsOf(result)) recorder.returned(keep(t).device.storage);
      calls = rngState().calls - firstCall;
      if (calls > 0) inArena(() => (raiseBase(calls), []));
      for (
        const [leaf, how] of recorder.leaves as Map<TensorBase, Omit<Gradient, "leaf" | "array">>
      ) {
        if (leaf.disposed) {
          letGo(how.source);
          continue;
        }
        const array = leaf.grad?.device ?? null;
        // What was added to belongs to others: the graph holds it as it does all that was there before.
        const kept = how.before !== undefined && array?.storage === how.before;
        if (!kept && array) array.storage.asGradient++;
        gradients.push({ leaf, ...how, array: kept ? undefined : array?.alias() ?? null });
      }
      return result;
    });
  } catch (error) {
    for (const { array } of gradients) letGo(array);
    for (const { source } of recorder.leaves.values()) letGo(source as DeviceArray | undefined);
    const done = recorder.finish();
    queue.replay(done);
    queue.flush();
    done.dispose();
    throw error;
  }
  const { makesState, before, conditions, settings } = recorder;
  const fields = [...recorder.fields.values()].map((f) => f.lasting());
  const graph = recorder.finish();
  const asTheyWere = { at: -1, so: false };
  return {
    graph,
    inputs,
    outputs,
    firstCall,
    calls,
    makesState,
    before,
    gradients,
    conditions,
    settings,
    fields,
    asTheyWere,
  };
}

/** What `fn` gives, with `own` of its tensors. A promise is left to the scope, which refuses it. */
function called<A extends readonly Tensor[], R extends CapturedResult>(
  fn: (...inputs: A) => R,
  inputs: A,
  own: (t: Tensor) => Tensor,
): R {
  const value = fn(...inputs);
  return value instanceof Promise ? value : mapTensors(value, own);
}

/** Has `fn` called before each replay of the step that is being captured, if one is: once, however often asked. */
export function beforeReplay(fn: () => void): void {
  openGpu()?.queue.recorder?.before.add(fn);
}

/**
 * Has the step that is being captured, if one is, replayed only where `holds()` is true; it is asked before each
 * replay. Of what an owner says the first counts. Settings with a `Setting` need none.
 */
export function replayOnlyIf(owner: object, holds: () => boolean): void {
  const { conditions } = openGpu()?.queue.recorder ?? {};
  if (conditions && !conditions.has(owner)) conditions.set(owner, holds);
}

/**
 * Keeps a tensor that is made once and changed from step to step, as an optimizer's state is. A captured step
 * that makes one is run, but not replayed: it would make the state anew.
 */
export function keepState<T extends Tensor>(state: T): T {
  const { recorder } = gpu().queue;
  if (recorder) recorder.makesState = true;
  return keep(state);
}

/** What stands for the step that is being captured, if one is. */
export function recordingNow(): object | null {
  return openGpu()?.queue.recorder ?? null;
}

/** Frees a recording with its inputs. */
function drop<R extends CapturedResult>(recording: Recording<R>): void {
  for (const t of recording.inputs) t.dispose();
  free(recording);
}

/** Frees a recording but for its inputs. */
function free<R extends CapturedResult>({ graph, outputs, gradients }: Recording<R>): void {
  gpu().queue.flush();
  for (const { array, source } of gradients) {
    letGo(array);
    letGo(source);
  }
  for (const t of tensorsOf(outputs)) t.dispose();
  graph.dispose();
}

/** Gives a handle on a gradient up. */
function letGo(array: DeviceArray | null | undefined): void {
  if (!array || array.released) return;
  array.storage.asGradient--;
  array.release();
}

/** Copies the inputs in, runs the recorded dispatches, copies the outputs out: one submit. */
function replay<R extends CapturedResult>(recording: Recording<R>, given: readonly Tensor[]): R {
  const arrays = given.map((t) => t.device); // throws for a freed one, before anything is done
  for (const prepare of recording.before) prepare();
  shiftCalls(recording.firstCall, recording.calls);
  return scope(() => {
    inArena(() => {
      recording.inputs.forEach((own, i) => copyInto(arrays[i]!, own.device));
      recording.gradients.forEach(bring);
      return [];
    });
    baseRaised(recording.calls);
    // The tape must notice what changes here as it does where an op changes it.
    for (const storage of recording.graph.writes) storage.version++;
    const result = run(recording);
    for (const { leaf, array } of recording.gradients) {
      if (array !== undefined && !leaf.disposed) leave(leaf, array);
    }
    return result;
  });
}

/** Whether the settings that a step depends on are as they were. */
function hasItsSettings<R extends CapturedResult>(recording: Recording<R>): boolean {
  const at = settingChanges();
  if (recording.asTheyWere.at !== at) {
    const so = recording.settings.every(({ was, now }) => {
      const is = now();
      return is === was || is === undefined;
    });
    recording.asTheyWere = { at, so };
  }
  return recording.asTheyWere.so;
}

/** Whether the settings, and the gradients that there are now, are those that a step begins with. */
function fits<R extends CapturedResult>(recording: Recording<R>): boolean {
  if (!hasItsSettings(recording)) return false;
  for (const holds of recording.conditions.values()) if (!holds()) return false;
  const asBefore = recording.gradients.every(({ leaf, start, before, source, array }) => {
    if (leaf.disposed || start === "set") return true;
    if (start === "make") return leaf.grad === null;
    const now = leaf.grad?.device.storage;
    if (now === before) return true;
    // What is only read may be another one, if what the step leaves is not the one that it read, whose memory
    // that goes into: it must be nobody else's.
    return start === "read" && array !== undefined && !!now && !source!.storage.isShared(0);
  });
  return asBefore && changedField(recording) === null;
}

/** The name of a field that is not as the step found it, or null. */
function changedField<R extends CapturedResult>({ fields }: Recording<R>): string | null {
  for (const one of fields) {
    const name = one.changed();
    if (name !== null) return name;
  }
  return null;
}

/** Puts the gradient that there is where the step reads it. */
function bring({ leaf, source }: Gradient): void {
  const now = source && !leaf.disposed ? leaf.grad?.device : undefined;
  if (!now || now.storage === source!.storage) return;
  copyInto(now, source!);
  source!.storage.version++;
}

/** Makes `array` the gradient of `leaf`, where it is not already: plain calls may have set another. */
function leave(leaf: TensorBase, array: DeviceArray | null): void {
  if (leaf.grad && leaf.grad.device.storage === array?.storage) return;
  leaf.grad = array ? wrapTensor(array.alias()) : null;
}

/** Runs the recorded dispatches and copies the outputs out. */
function run<R extends CapturedResult>({ graph, outputs }: Recording<R>): R {
  gpu().queue.replay(graph);
  return copies(outputs);
}

/** Bytes of a graph and of its copies of the inputs. */
function bytesOf<R>({ graph, inputs }: Recording<R>): number {
  return inputs.reduce((n, t) => n + t.device.storage.pooled.bytes, graph.bytes);
}

/** The same structure with tensors of its own. */
function copies<R extends CapturedResult>(value: R): R {
  return mapTensors(value, copyOfTensor);
}

/** A copy, without a gradient, that is no op of the step: no check looks at it. */
function copyOfTensor(t: Tensor): Tensor {
  return wrapTensor(inArena(() => copyOf(t.device)));
}

/** The same structure with other tensors. */
function mapTensors<R extends CapturedResult>(value: R, fn: (t: Tensor) => Tensor): R {
  if (value instanceof Tensor) return noGrad(() => fn(value)) as R;
  if (Array.isArray(value)) return value.map((item) => mapTensors(item, fn)) as unknown as R;
  if (value === undefined || value === null) return value;
  if (typeof value !== "object") {
    throw new TypeError(
      `Cannot return ${
        given(value)
      } from a captured function: it can give tensors, and arrays and ` +
        "plain objects of them, as replays compute nothing else",
    );
  }
  const type = Object.getPrototypeOf(value);
  if (type !== Object.prototype && type !== null) {
    throw new TypeError(
      `Cannot return a ${type.constructor.name} from a captured function: it can give tensors, and ` +
        "arrays and plain objects of them",
    );
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, mapTensors(item as CapturedResult, fn)]),
  ) as unknown as R;
}

/** Every tensor of a result. */
function tensorsOf(value: CapturedResult): Tensor[] {
  if (value instanceof Tensor) return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap((item) => tensorsOf(item as CapturedResult));
}
