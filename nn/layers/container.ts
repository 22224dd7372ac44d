/** @file Modules that hold modules. */

import { checkOptions, given } from "../../engine/arguments.ts";
import type { Tensor } from "../../engine/mod.ts";
import { type Layer, Module } from "../module.ts";
import { describeList } from "../module_text.ts";
import { freesOnTheWay } from "../forward.ts";
import { fusible, then } from "./_epilogue.ts";

/** Checks that what is put into a container is a module. */
function checkModule(what: string, value: unknown, right: string): void {
  if (value instanceof Module) return;
  throw new TypeError(`Cannot ${what} with ${given(value)}: it takes modules, as in ${right}`);
}

/**
 * Layers one after the other, named "0", "1", …
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const net = new nn.Sequential(new nn.Linear(8, 16), new nn.ReLU(), new nn.Linear(16, 2));
 * console.log(net.forward(randn([4, 8])).shape); // [4, 2]
 * ```
 */
export class Sequential extends Module implements Iterable<Layer> {
  readonly [index: number]: Layer;

  /** @param layers The layers, first to last. */
  constructor(...layers: Layer[]) {
    super();
    for (const layer of layers) {
      checkModule("make Sequential", layer, "new nn.Sequential(...layers)");
    }
    Object.assign(this, layers);
  }

  /** Number of layers. */
  get length(): number {
    return this.children().length;
  }
  /** The layer at `index`; a negative one counts from the end. */
  at(index: number): Layer | undefined {
    return [...this].at(index);
  }
  /** The layers in order. */
  *[Symbol.iterator](): Iterator<Layer> {
    yield* this.children() as Layer[];
  }
  /**
   * The last layer's output. A convolution, linear layer or batch normalisation applies the activation that
   * follows it itself, where it can: one pass over memory fewer, forward and backward. A profile then counts
   * the activation as part of the layer.
   */
  override forward(x: Tensor): Tensor {
    const layers = [...this];
    let y = x;
    for (let i = 0; i < layers.length; i++) {
      const [layer, next] = [layers[i]!, layers[i + 1]];
      const before = y;
      if (next && fusible(layer, next)) {
        y = then(layer, y, { next });
        i++;
      } else y = layer.forward(y);
      if (freesOnTheWay() && before !== x && before !== y) before.dispose();
    }
    return y;
  }
  override isContainer(): boolean {
    return true;
  }
}

/**
 * Modules in a list, named "0", "1", … It registers them and has no forward of its own.
 *
 * @template M What the modules are.
 */
export class ModuleList<M extends Module = Layer> extends Module implements Iterable<M> {
  readonly [index: number]: M;

  /** @param modules The modules in order. */
  constructor(modules: Iterable<M> = []) {
    super();
    const right = "new nn.ModuleList([a, b])";
    if (typeof modules?.[Symbol.iterator] !== "function") {
      throw new TypeError(`Cannot make ModuleList with ${given(modules)}: write ${right}`);
    }
    const list = [...modules];
    for (const module of list) checkModule("make ModuleList", module, right);
    Object.assign(this, list);
  }

  /** Number of modules. */
  get length(): number {
    return this.children().length;
  }
  /** The module at `index`; a negative one counts from the end. */
  at(index: number): M | undefined {
    return [...this].at(index);
  }
  /** Adds a module at the end; returns the list. */
  append(module: M): this {
    checkModule("add to a ModuleList", module, "new nn.ModuleList([a, b])");
    Object.assign(this, { [this.length]: module });
    return this;
  }
  /** The modules in order. */
  *[Symbol.iterator](): Iterator<M> {
    yield* this.children() as M[];
  }
  /** @throws {TypeError} Always: call the modules one by one. */
  override forward(): never {
    throw new TypeError("Cannot call forward of a ModuleList: call its modules one by one");
  }
  override isContainer(): boolean {
    return true;
  }
  override toString(): string {
    return describeList(this);
  }
}

/**
 * Modules by name. It registers them and has no forward of its own.
 *
 * @template M What the modules are.
 *
 * @example
 * ```ts
 * import { init, nn, randn } from "../../mod.ts";
 * await init();
 * const heads = new nn.ModuleDict({ word: new nn.Linear(8, 100), tag: new nn.Linear(8, 5) });
 * console.log(heads.get("tag")!.forward(randn([4, 8])).shape); // [4, 5]
 * console.log(Object.keys(heads.stateDict())); // ["word.weight", "word.bias", "tag.weight", "tag.bias"]
 * ```
 */
export class ModuleDict<M extends Module = Layer> extends Module implements Iterable<[string, M]> {
  /**
   * @param modules The modules by name.
   * @throws {TypeError} If a name is empty, has a dot, or is that of a property of modules.
   */
  constructor(modules: Readonly<Record<string, M>> = {}) {
    super();
    const right = "new nn.ModuleDict({ a: layer })";
    if (modules instanceof Module || modules instanceof Map) {
      throw new TypeError(`Cannot make ModuleDict with ${given(modules)}: write ${right}`);
    }
    checkOptions("make ModuleDict", modules, right, Object.keys(modules ?? {}));
    for (const [name, module] of Object.entries(modules)) this.set(name, module);
  }

  /** Number of modules. */
  get size(): number {
    return this.children().length;
  }
  /** The module of that name. */
  get(name: string): M | undefined {
    return new Map(this).get(name);
  }
  /** Whether there is a module of that name. */
  has(name: string): boolean {
    return this.get(name) !== undefined;
  }
  /**
   * Adds a module, or puts it in the place of the one of that name; returns the dictionary.
   *
   * @throws {TypeError} If the name is empty, has a dot, or is that of a property of modules.
   */
  set(name: string, module: M): this {
    if (name === "" || name.includes(".") || (name in this && !this.has(name))) {
      throw new TypeError(
        `Cannot put a module under ${JSON.stringify(name)} in a ModuleDict: ` +
          (name in this
            ? "modules have a property of that name"
            : "a name must not be empty or have a dot"),
      );
    }
    checkModule("put into a ModuleDict", module, "new nn.ModuleDict({ a: layer })");
    Object.assign(this, { [name]: module });
    return this;
  }
  /** Takes a module out; returns whether there was one. It lives on. */
  delete(name: string): boolean {
    return this.has(name) && Reflect.deleteProperty(this, name);
  }
  /** The names. */
  keys(): string[] {
    return this.namedChildren().map(([name]) => name);
  }
  /** The modules. */
  values(): M[] {
    return this.children() as M[];
  }
  /** Names and modules, in order. */
  *[Symbol.iterator](): Iterator<[string, M]> {
    yield* this.namedChildren() as [string, M][];
  }
  /** @throws {TypeError} Always: call the modules one by one. */
  override forward(): never {
    throw new TypeError("Cannot call forward of a ModuleDict: call its modules one by one");
  }
  override isContainer(): boolean {
    return true;
  }
}
