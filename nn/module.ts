/**
 * @file Modules: parameters, buffers and other modules under one name each.
 *
 * A module registers what its properties hold, in the order they were first assigned, so names are the
 * paths of the properties: `features.0.weight`. They are PyTorch's names where the properties are.
 */

import { checkOptions } from "../engine/arguments.ts";
import { type DType, keep, noGrad, Tensor } from "../engine/mod.ts";
import { Setting } from "../engine/setting.ts";
import { type Forward, wrapForward } from "./forward.ts";
import { describeModule } from "./module_text.ts";
import { Parameter } from "./parameter.ts";
import { type LoadReport, type LoadStateOptions, loadTensors } from "./state_dict.ts";
import { summarize } from "./summary.ts";

/** A module that maps one tensor to one tensor. */
export type Layer = Module & {
  /** The output for `x`. */
  forward(x: Tensor): Tensor;
};

/**
 * Base of every model and layer: assign parameters and modules to properties and write `forward`.
 *
 * Lists of modules go into `Sequential` or `ModuleList`, named ones into `ModuleDict`; an array, object, map or
 * set of them is refused, because its parameters would be forgotten. Private `#fields` are not seen: use them for what is not learned.
 *
 * @example
 * ```ts
 * import { init, nn, randn, type Tensor } from "../mod.ts";
 * await init();
 *
 * class Net extends nn.Module {
 *   hidden = new nn.Linear(8, 16);
 *   out = new nn.Linear(16, 2);
 *   override forward(x: Tensor): Tensor {
 *     return this.out.forward(this.hidden.forward(x).relu());
 *   }
 * }
 * const net = new Net();
 * console.log(`${net}`, net.forward(randn([4, 8])).shape); // …, [4, 2]
 * ```
 */
export abstract class Module implements Disposable {
  readonly #training = new Setting(true);
  readonly #buffers = new Map<string, { persistent: boolean }>();

  constructor() {
    // Own, so that a subclass's forward and a caller's `child.forward(x)` both pass through it.
    Object.defineProperty(this, "forward", {
      value: wrapForward(this, this.forward as Forward),
      configurable: true,
      writable: true,
    });
  }

  /** The outputs for `inputs`. Subclasses name their own types. */
  abstract forward(...inputs: never[]): unknown;

  // ---- what is inside ----

  /**
   * Registers a tensor that is saved with the module but not learned, such as a running mean, as the
   * property `name`. It outlives every `scope`.
   *
   * @param name Name of the property.
   * @param value The tensor.
   * @returns `value`
   * @throws {TypeError} If the name has a dot, or stands for something else already.
   */
  registerBuffer(name: string, value: Tensor, options: { persistent?: boolean } = {}): Tensor {
    checkOptions(
      "register a buffer",
      options,
      'this.registerBuffer("mean", t, { persistent: false })',
    );
    const own = this as unknown as Record<string, unknown>;
    const taken = name in this && own[name] !== undefined && !this.#buffers.has(name);
    if (name === "" || name.includes(".") || taken) {
      throw new TypeError(
        `Cannot register the buffer ${JSON.stringify(name)} in ${this.constructor.name}: ` +
          (taken ? "it has a property of that name" : "the name must not be empty or have a dot"),
      );
    }
    this.#buffers.set(name, { persistent: options.persistent ?? true });
    own[name] = keep(value);
    return value;
  }

  /** The modules right inside, by property, in order of definition. */
  namedChildren(): [string, Module][] {
    const children: [string, Module][] = [];
    const own = Object.entries(this);
    const isForgotten = (value: unknown) =>
      isRegistered(value) && !own.some(([, other]) => other === value);
    for (const [name, value] of own) {
      if (value instanceof Module) children.push([name, value]);
      else if (typeof value === "object" && value !== null && holds(value, isForgotten)) {
        const list = Array.isArray(value) || value instanceof Set;
        const kind = Array.isArray(value)
          ? "array"
          : value instanceof Map || value instanceof Set
          ? value.constructor.name
          : "object";
        throw new TypeError(
          `Cannot register the ${kind} ${this.constructor.name}.${name}: put modules into a ` +
            `${list ? "ModuleList or Sequential" : "ModuleDict"}, and parameters into properties`,
        );
      }
    }
    return children;
  }

  /** The modules right inside. */
  children(): Module[] {
    return this.namedChildren().map(([, child]) => child);
  }

  /** This module (named "") and all inside it, parents first; each module once. */
  namedModules(): [string, Module][] {
    const seen = new Set<Module>();
    const visit = (module: Module, path: string): [string, Module][] => {
      if (seen.has(module)) return [];
      seen.add(module);
      const inside = module.namedChildren().flatMap(([name, child]) =>
        visit(child, path === "" ? name : `${path}.${name}`)
      );
      return [[path, module], ...inside];
    };
    return visit(this, "");
  }

  /** This module and all inside it, parents first; each module once. */
  modules(): Module[] {
    return this.namedModules().map(([, module]) => module);
  }

  /** Parameters by path, a module's own before its children's; a shared one under its first name. */
  namedParameters(): [string, Parameter][] {
    return once(this.#allTensors()).filter((entry): entry is [string, Parameter] =>
      entry[1] instanceof Parameter
    );
  }

  /** All parameters, as an optimizer takes them. */
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** Buffers by path. */
  namedBuffers(): [string, Tensor][] {
    return once(this.#allTensors()).filter(([, t]) => !(t instanceof Parameter));
  }

  /** All buffers. */
  buffers(): Tensor[] {
    return this.namedBuffers().map(([, buffer]) => buffer);
  }

  /** Every registered tensor under every name it has, parameters of a module before its buffers. */
  #allTensors({ saved = false } = {}): [string, Tensor][] {
    const visit = (module: Module, prefix: string): [string, Tensor][] => {
      const own = Object.entries(module).filter(([name, value]) =>
        value instanceof Parameter || module.#holdsBuffer(name, value, saved)
      ).map(([name, value]): [string, Tensor] => [prefix + name, value]);
      const parameters = own.filter(([, value]) => value instanceof Parameter);
      const buffers = own.filter(([, value]) => !(value instanceof Parameter));
      return [
        ...parameters,
        ...buffers,
        ...module.namedChildren().flatMap(([name, child]) => visit(child, `${prefix}${name}.`)),
      ];
    };
    return visit(this, "");
  }

  #holdsBuffer(name: string, value: unknown, saved: boolean): boolean {
    const buffer = this.#buffers.get(name);
    return buffer !== undefined && value instanceof Tensor && (buffer.persistent || !saved);
  }

  // ---- modes ----

  /**
   * True while training; dropout and batch statistics ask for it. Set by `train` and `eval`. A captured step
   * that asks for it has a graph for each mode.
   */
  get training(): boolean {
    return this.#training.value;
  }
  set training(mode: boolean) {
    this.#training.value = mode;
  }

  /** Sets `training` here and in all modules inside; returns the module. */
  train(mode = true): this {
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** `train(false)`. */
  eval(): this {
    return this.train(false);
  }

  /** Freezes (false) or unfreezes all parameters; returns the module. */
  requiresGrad_(value = true): this {
    for (const parameter of this.parameters()) parameter.requiresGrad_(value);
    return this;
  }

  /** Drops all gradients. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null;
  }

  /** Calls `fn` with every module, children before parents; returns the module. */
  apply(fn: (module: Module) => void): this {
    for (const child of this.children()) child.apply(fn);
    fn(this);
    return this;
  }

  /**
   * Converts float parameters and buffers to f32 or f16; returns the module. They become new tensors
   * without gradients and the old ones are freed, so make optimizers afterwards. Optimizers take f32 alone: f16
   * is for running a trained model. To train in f16, keep the parameters in f32 and use `autocast`.
   *
   * @throws {TypeError} If `dtype` is not a float.
   */
  to(dtype: DType): this {
    if (dtype !== "f32" && dtype !== "f16") {
      throw new TypeError(`Cannot convert a module to ${dtype}: it must be f32 or f16`);
    }
    const converted = new Map<Tensor, Tensor>();
    for (const module of this.modules()) {
      for (const [name, value] of Object.entries(module)) {
        const registered = value instanceof Parameter || module.#holdsBuffer(name, value, false);
        if (!registered || !/^f(16|32)$/.test(value.dtype) || value.dtype === dtype) continue;
        if (!converted.has(value)) converted.set(value, convert(value, dtype));
        (module as unknown as Record<string, unknown>)[name] = converted.get(value);
      }
    }
    for (const old of converted.keys()) old.dispose();
    return this;
  }

  // ---- state ----

  /**
   * Parameters and persistent buffers by name: the tensors themselves, not copies. A shared tensor
   * occurs under each of its names, as in PyTorch.
   */
  stateDict(): Record<string, Tensor> {
    return Object.fromEntries(this.#allTensors({ saved: true }));
  }

  /**
   * Copies `dict` into the parameters and buffers. Nothing changes unless everything fits.
   *
   * @param dict Tensors by name, as `stateDict` or `loadSafetensors` give them; the caller keeps them.
   * @param options `strict: false` lets names be missing or unexpected; shapes must always fit.
   * @returns The names that were missing or unexpected.
   * @throws {TypeError} If names are missing or unexpected, or shapes differ. The message lists all.
   */
  loadStateDict(
    dict: Readonly<Record<string, Tensor>>,
    options: LoadStateOptions = {},
  ): LoadReport {
    checkOptions("load the state", options, "model.loadStateDict(dict, { strict: false })");
    return loadTensors(this.stateDict(), dict, { ...options, name: this.constructor.name });
  }

  /** Frees all parameters and buffers. */
  dispose(): void {
    for (const [, t] of once(this.#allTensors())) t.dispose();
  }
  /** `using model = …` frees the model's tensors at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  // ---- words ----

  /** The settings that `toString` prints, e.g. `1, 64, kernel_size=(11, 11)`. */
  extraRepr(): string {
    return "";
  }

  /** True for modules that only hold others; `summary` has no line for them. */
  isContainer(): boolean {
    return false;
  }

  /** The architecture as PyTorch prints it. */
  toString(): string {
    return describeModule(this);
  }

  /**
   * A table of layers as torchsummary prints it: output shapes (-1 for the batch), parameters, sizes in
   * MiB. Runs one sample of zeros in evaluation mode; nothing of the module changes.
   *
   * @param inputShape Shape of one sample, without the batch: [C, H, W].
   */
  summary(inputShape: readonly number[], options: { dtype?: DType } = {}): string {
    checkOptions("summarise", options, "model.summary([3, 32, 32])");
    return summarize(this, inputShape, options);
  }

  /** What `console.log` prints. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }
}

function isRegistered(value: unknown): boolean {
  return value instanceof Module || value instanceof Parameter;
}

/** Entries that are looked at in what is no flat array: only as many as make it cheap. */
const LOOKED_AT = 32;

/** Whether a list, a map or a plain object has something in it that is wanted, at most two levels deep. */
function holds(value: object, wanted: (item: unknown) => boolean, depth = 2): boolean {
  if (depth === 2 && Array.isArray(value) && value.some(wanted)) return true;
  const items = itemsOf(value);
  if (!items) return false;
  let left = LOOKED_AT;
  for (const item of items) {
    if (left-- === 0) return false;
    if (wanted(item)) return true;
    const deeper = depth > 1 && typeof item === "object" && item !== null && !isRegistered(item);
    if (deeper && holds(item, wanted, depth - 1)) return true;
  }
  return false;
}

/** What is in a list, a map or a plain object; null for anything else. */
function itemsOf(value: object): Iterable<unknown> | null {
  if (Array.isArray(value) || value instanceof Set) return value;
  if (value instanceof Map) return value.values();
  const type = Object.getPrototypeOf(value);
  return type === Object.prototype || type === null ? Object.values(value) : null;
}

/** Each tensor under its first name. */
function once(named: readonly [string, Tensor][]): [string, Tensor][] {
  const seen = new Set<Tensor>();
  return named.filter(([, t]) => !seen.has(t) && seen.add(t));
}

function convert(value: Tensor, dtype: "f32" | "f16"): Tensor {
  const converted = noGrad(() => value.to(dtype));
  return value instanceof Parameter
    ? new Parameter(converted, { requiresGrad: value.requiresGrad })
    : keep(converted);
}
