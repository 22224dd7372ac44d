/** @file Modules that hold modules. */

import type { Tensor } from "../../engine/mod.ts";
import { type Layer, Module } from "../module.ts";
import { describeList } from "../module_text.ts";
import { freesOnTheWay } from "../forward.ts";
import { fusible, then } from "./_epilogue.ts";

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
    Object.assign(this, [...modules]);
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
