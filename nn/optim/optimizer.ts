/** @file What every optimizer has: groups of parameters with options, and state by parameter. */

import { checkOptions, given as describe } from "../../engine/arguments.ts";
import { beforeReplay, recordingNow, replayOnlyIf } from "../../engine/capture.ts";
import { keep, noGrad, Tensor } from "../../engine/mod.ts";

/** Options every optimizer has. */
export interface BaseOptions {
  /** Learning rate. */
  lr: number;
}

/**
 * Parameters and the options they are updated with. Options may be changed between steps.
 *
 * @template O The optimizer's options.
 */
export type ParamGroup<O extends object = BaseOptions> = O & {
  /** The parameters. */
  readonly params: readonly Tensor[];
  /** Learning rate the schedulers start from; they set it. */
  initialLr?: number;
};

/**
 * Parameters as an optimizer takes them: a list, or groups with options of their own.
 *
 * @template O The optimizer's options.
 */
export type ParamInput<O extends object> =
  | Iterable<Tensor>
  | Iterable<Partial<O> & { params: Iterable<Tensor> }>;

/** State of one parameter, by name. */
export type ParamState = Record<string, Tensor>;

/** Options of {@linkcode Optimizer.step}. */
export interface StepOptions {
  /** u32 [1] on the GPU: the step changes nothing where it is not 0. */
  skip?: Tensor;
}

/** What {@linkcode Optimizer.stateDict} gives; `saveCheckpoint` takes it as it is. */
export interface OptimizerState {
  /** State by the parameter's index over all groups. */
  state: Record<string, ParamState>;
  /** Options of each group, and the indices of its parameters. */
  paramGroups: Record<string, number | boolean | number[]>[];
}

/**
 * Base of the optimizers.
 *
 * @template O The options.
 */
export abstract class Optimizer<O extends BaseOptions = BaseOptions> implements Disposable {
  /** Groups of parameters with their options. */
  readonly paramGroups: ParamGroup<O>[] = [];
  /** What is remembered of each parameter. */
  protected readonly state: Map<Tensor, ParamState> = new Map();
  /** Names that the state of a parameter may have. */
  protected abstract readonly stateNames: readonly string[];
  readonly #defaults: O;

  /**
   * @param params Parameters, or groups of them.
   * @param defaults Options of the groups that do not name their own.
   * @param given The options as they were given.
   * @throws {TypeError} If there are no parameters, one occurs twice or is not a leaf, or an option is given
   * that has no default.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(params: ParamInput<O>, defaults: O, given: object = {}) {
    this.#defaults = defaults;
    const name = this.constructor.name;
    const right = `new ${name}(model.parameters(), { lr: 0.1 })`;
    checkOptions(`make ${name}`, given, right, Object.keys(defaults));
    checkList(`make ${name}`, params, right);
    const list = [...params as Iterable<Tensor | Partial<O> & { params: Iterable<Tensor> }>];
    if (list.length === 0) {
      throw new TypeError(`Cannot make ${this.constructor.name} without parameters`);
    }
    const groups = list.filter((entry) => Object(entry) === entry && "params" in entry);
    if (groups.length !== 0 && groups.length !== list.length) {
      throw new TypeError(
        `Cannot make ${this.constructor.name} from parameters and groups: give one kind`,
      );
    }
    if (groups.length === 0) this.addParamGroup({ params: list as Tensor[] } as never);
    else for (const group of groups) this.addParamGroup(group as never);
  }

  /**
   * Adds parameters with options of their own.
   *
   * @throws {TypeError} If a parameter is in a group already, or is not a leaf.
   * @throws {RangeError} If an option is out of range.
   */
  addParamGroup(group: Partial<O> & { params: Iterable<Tensor> }): void {
    const names = ["params", "initialLr", ...Object.keys(this.#defaults)];
    const what = `add parameters to ${this.constructor.name}`;
    const right = "optimizer.addParamGroup({ params: model.parameters() })";
    checkOptions(what, group, right, names);
    checkList(what, group.params, right);
    const params = [...group.params];
    const known = new Set<Tensor>(this.paramGroups.flatMap((other) => other.params));
    for (const param of params) {
      if (!(param instanceof Tensor)) {
        throw new TypeError(
          `Cannot optimize ${
            describe(param)
          }: it must be a tensor, as model.parameters() gives them`,
        );
      }
      const shape = `[${param.shape.join(", ")}]`;
      if (known.has(param)) {
        throw new TypeError(`Cannot optimize the parameter ${shape} twice: it is in two places`);
      }
      if (!param.isLeaf) {
        throw new TypeError(`Cannot optimize the computed tensor ${shape}: it must be a leaf`);
      }
      known.add(param);
    }
    const given = Object.entries(group).filter(([, value]) => value !== undefined);
    const complete = { ...this.#defaults, ...Object.fromEntries(given), params } as ParamGroup<O>;
    this.check(complete);
    this.paramGroups.push(complete);
  }

  /**
   * Checks a group's options.
   *
   * @throws {RangeError} If one is out of range.
   */
  protected abstract check(options: O): void;

  /**
   * Updates every parameter that has a gradient. Nothing is recorded and nothing is read back.
   *
   * @param options `skip`: u32 [1] on the GPU; nothing changes where it is not 0. `GradScaler` passes it.
   * @throws {TypeError} If they are a closure, as PyTorch takes: gradients must be there before.
   */
  abstract step(options?: StepOptions): void;

  /**
   * What every `step` begins with: checks its options, and has {@linkcode Optimizer.writeOptions} called where the
   * step is replayed.
   *
   * @throws {TypeError} If they are no options of `step`.
   */
  protected beginStep(options: StepOptions): void {
    const right = "loss.backward(), then optimizer.step()";
    checkOptions(`step ${this.constructor.name}`, options, right, ["skip"]);
    beforeReplay(this.beforeReplay);
    this.#replayWithTheseGroups();
  }

  /**
   * What of a group's options decides which dispatches a step is, rather than what they read: with others, and with
   * other groups, a captured step is recorded anew.
   */
  protected form(_group: O): string {
    return "";
  }

  #replayWithTheseGroups(): void {
    if (!recordingNow()) return;
    const forms = () => this.paramGroups.map((group) => this.form(group)).join(";");
    const [count, then] = [this.paramGroups.length, forms()];
    replayOnlyIf(this, () => this.paramGroups.length === count && forms() === then);
  }

  /**
   * Writes options that changed to GPU memory. `step` does it too, also where it is replayed; schedulers call it.
   */
  abstract writeOptions(): void;

  /** What a captured step does before each replay. A property, so that it is the same function each time. */
  protected readonly beforeReplay = (): void => this.writeOptions();

  /** Drops all gradients. */
  zeroGrad(): void {
    this.#replayWithTheseGroups();
    for (const group of this.paramGroups) {
      for (const param of group.params) param.grad = null;
    }
  }

  /** State and options, as PyTorch arranges them: the state tensors themselves, not copies. */
  stateDict(): OptimizerState {
    const indices = this.#indices();
    const state: Record<string, ParamState> = {};
    for (const [param, values] of this.state) state[indices.get(param)!] = { ...values };
    const paramGroups = this.paramGroups.map(({ params, ...options }) => ({
      ...options as Record<string, number | boolean>,
      params: params.map((param) => indices.get(param)!),
    }));
    return { state, paramGroups };
  }

  /**
   * Copies saved state and options in. Nothing changes unless everything fits.
   *
   * @param saved What {@linkcode Optimizer.stateDict} gave; the caller keeps its tensors.
   * @throws {TypeError} If groups, options, names or shapes differ. The message lists all.
   */
  loadStateDict(saved: OptimizerState): void {
    if (typeof saved?.state !== "object" || !Array.isArray(saved.paramGroups)) {
      throw new TypeError(
        `Cannot load the state of ${this.constructor.name}: it must have state and paramGroups, as ` +
          "stateDict gives",
      );
    }
    const faults = [...this.#groupFaults(saved), ...this.#stateFaults(saved)];
    if (faults.length > 0) {
      throw new TypeError(
        `Cannot load the state of ${this.constructor.name}:\n  ${faults.join("\n  ")}`,
      );
    }
    this.paramGroups.forEach((group, g) => {
      const { params: _, ...options } = saved.paramGroups[g]!;
      Object.assign(group, options);
    });
    noGrad(() => {
      for (const [param, index] of this.#indices()) {
        this.#loadParam(param, saved.state[index] ?? {});
      }
    });
    this.writeOptions();
  }

  #loadParam(param: Tensor, saved: ParamState): void {
    const own = this.state.get(param) ?? {};
    for (const [name, old] of Object.entries(own)) {
      if (saved[name] !== undefined) continue;
      old.dispose();
      delete own[name];
    }
    for (const [name, value] of Object.entries(saved)) {
      if (own[name] === undefined) own[name] = keep(value.clone());
      else if (own[name] !== value) own[name].copy_(value);
    }
    if (Object.keys(own).length > 0) this.state.set(param, own);
    else this.state.delete(param);
  }

  #groupFaults({ paramGroups }: OptimizerState): string[] {
    if (paramGroups.length !== this.paramGroups.length) {
      return [`${paramGroups.length} groups, and must have ${this.paramGroups.length}`];
    }
    return this.paramGroups.flatMap(({ params, ...options }, g) => {
      const given = paramGroups[g]!;
      const known = ["params", "initialLr", ...Object.keys(options)];
      const count = (given.params as number[] | undefined)?.length ?? 0;
      const wrong = Object.entries(options).filter(([name, value]) =>
        name !== "initialLr" && typeof given[name] !== typeof value
      );
      return [
        ...(count === params.length
          ? []
          : [`group ${g} has ${count} parameters, and must have ${params.length}`]),
        ...wrong.map(([name, value]) => `group ${g} has no ${name} that is a ${typeof value}`),
        ...Object.keys(given).filter((name) => !known.includes(name)).map((name) =>
          `group ${g} has an unknown ${name}`
        ),
      ];
    });
  }

  #stateFaults({ state }: OptimizerState): string[] {
    const params = this.paramGroups.flatMap((group) => group.params);
    return Object.entries(state).flatMap(([index, values]) => {
      const param = params[Number(index)];
      if (!param) return [`state of parameter ${index}, and there are ${params.length}`];
      return Object.entries(values).flatMap(([name, value]) => {
        if (!this.stateNames.includes(name)) return [`parameter ${index} has an unknown ${name}`];
        const [want, got] = [this.stateShape(param, name), value.shape].map((shape) =>
          `[${shape.join(", ")}]`
        );
        return got === want ? [] : [`${name} of parameter ${index} is ${got}, and must be ${want}`];
      });
    });
  }

  /** Shape of the state `name` of a parameter: the parameter's. */
  protected stateShape(param: Tensor, _name: string): readonly number[] {
    return param.shape;
  }

  /** Index of each parameter over all groups. */
  #indices(): Map<Tensor, number> {
    return new Map(this.paramGroups.flatMap((group) => group.params).map((param, i) => [param, i]));
  }

  /** Frees the state. */
  dispose(): void {
    for (const values of this.state.values()) {
      for (const value of Object.values(values)) value.dispose();
    }
    this.state.clear();
  }
  /** `using optimizer = …` frees the state at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Checks that parameters are some, and not a model. */
function checkList(what: string, params: unknown, right: string): void {
  if (typeof (params as Iterable<unknown> | null)?.[Symbol.iterator] === "function") return;
  throw new TypeError(`Cannot ${what} from ${describe(params)}: write ${right}`);
}

/**
 * Checks that an option is at least 0.
 *
 * @throws {RangeError} Naming optimizer and option if it is not.
 */
export function checkNotNegative(
  optimizer: string,
  options: Readonly<Record<string, number>>,
): void {
  for (const [name, value] of Object.entries(options)) {
    if (!(value >= 0 && value < Infinity)) {
      throw new RangeError(`Cannot use ${optimizer} with ${name} ${value}: it must be at least 0`);
    }
  }
}
