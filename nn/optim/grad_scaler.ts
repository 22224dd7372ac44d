/** @file Dynamic loss scaling for training in f16. */

import { checkOptions } from "../../engine/arguments.ts";
import {
  keep,
  noGrad,
  type Tensor,
  tensor,
  unscaleGradients,
  updateLossScale,
  zeros,
} from "../../engine/mod.ts";
import type { StepOptions } from "./optimizer.ts";

/** Options of {@linkcode GradScaler}. */
export interface GradScalerOptions {
  /** Scale to begin with. Default 65536. */
  initScale?: number;
  /** Factor after `growthInterval` steps without overflow. Default 2. */
  growthFactor?: number;
  /** Factor after an overflow. Default 0.5. */
  backoffFactor?: number;
  /** Steps without overflow between growths. Default 2000. */
  growthInterval?: number;
  /** False makes every method do what training in f32 does. Default true. */
  enabled?: boolean;
}

/** What a scaler needs of an optimizer; every `Optimizer` has it. */
export interface ScaledOptimizer {
  /** Groups of parameters. */
  readonly paramGroups: readonly { readonly params: readonly Tensor[] }[];
  /** A step that can be skipped on the GPU. */
  step(options?: StepOptions): void;
}

/** What {@linkcode GradScaler.stateDict} gives. */
export interface GradScalerState {
  /** f32 [2]: the scale, and steps since it changed. */
  state: Tensor;
}

/**
 * Multiplies the loss so that small gradients survive f16, divides the gradients by the same factor
 * before the optimizer sees them, and skips a step whose gradients overflowed. The scale, the overflow
 * flag and the decision to skip stay on the GPU: nothing is ever read back.
 *
 * Source: https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
 *
 * @example
 * ```ts
 * import { autocast, init, nn, randn, scope } from "../../mod.ts";
 * const info = await init();
 * const model = new nn.Linear(8, 1);
 * const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1 });
 * const enabled = info.features.has("shader-f16");
 * const scaler = new nn.optim.GradScaler({ enabled });
 * scope(() => {
 *   optimizer.zeroGrad();
 *   const loss = autocast({ enabled }, () => model.forward(randn([4, 8])).square().mean());
 *   scaler.scale(loss).backward();
 *   scaler.step(optimizer);
 *   scaler.update();
 * });
 * ```
 */
export class GradScaler implements Disposable {
  readonly #rule: { growthFactor: number; backoffFactor: number; growthInterval: number };
  readonly #enabled: boolean;
  /** [scale, steps without overflow] and the flag, made when first used. */
  #memory: { state: Tensor; found: Tensor } | null = null;
  readonly #initScale: number;
  /** Optimizers whose gradients were unscaled since the last update. */
  #unscaled = new Set<unknown>();

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: GradScalerOptions = {}) {
    checkOptions("make GradScaler", options, "new GradScaler({ initScale: 1024 })");
    const {
      initScale = 65536,
      growthFactor = 2,
      backoffFactor = 0.5,
      growthInterval = 2000,
      enabled = true,
    } = options;
    const rules: [string, number, boolean, string][] = [
      ["initScale", initScale, initScale > 0 && Number.isFinite(initScale), "above 0"],
      ["growthFactor", growthFactor, growthFactor > 1, "above 1"],
      ["backoffFactor", backoffFactor, backoffFactor > 0 && backoffFactor < 1, "between 0 and 1"],
      [
        "growthInterval",
        growthInterval,
        Number.isInteger(growthInterval) && growthInterval >= 1,
        "a whole number of at least 1",
      ],
    ];
    for (const [name, value, fits, rule] of rules) {
      if (!fits) throw new RangeError(`Cannot scale with ${name} ${value}: it must be ${rule}`);
    }
    this.#initScale = initScale;
    this.#rule = { growthFactor, backoffFactor, growthInterval };
    this.#enabled = enabled;
  }

  /** Whether it does anything. */
  get enabled(): boolean {
    return this.#enabled;
  }

  #gpu(): { state: Tensor; found: Tensor } {
    this.#memory ??= {
      state: keep(tensor([this.#initScale, 0])),
      found: keep(zeros([1], { dtype: "u32" })),
    };
    return this.#memory;
  }

  /** loss · scale, on the tape. */
  scale(loss: Tensor): Tensor {
    if (!this.#enabled) return loss;
    return loss.to("f32").mul(noGrad(() => this.#gpu().state.select(0, 0)));
  }

  /**
   * Divides the gradients of the optimizer's parameters by the scale, e.g. to clip them before `step`.
   *
   * @throws {Error} If it was called for this optimizer since the last `update`.
   */
  unscale_(optimizer: ScaledOptimizer): void {
    if (!this.#enabled) return;
    if (this.#unscaled.has(optimizer)) {
      throw new Error("Cannot unscale_ the same optimizer twice: call update() after each step");
    }
    this.#unscaled.add(optimizer);
    const grads = new Set<Tensor>();
    for (const group of optimizer.paramGroups) {
      for (const { grad } of group.params) if (grad) grads.add(grad);
    }
    const { state, found } = this.#gpu();
    unscaleGradients([...grads], state, found);
  }

  /** The optimizer's step, which changes nothing if a gradient overflowed. Unscales first if need be. */
  step(optimizer: ScaledOptimizer): void {
    if (!this.#enabled) return optimizer.step();
    if (!this.#unscaled.has(optimizer)) this.unscale_(optimizer);
    optimizer.step({ skip: this.#gpu().found });
  }

  /** Moves the scale; call it once after the steps of all optimizers. */
  update(): void {
    if (!this.#enabled) return;
    this.#unscaled.clear();
    const { state, found } = this.#gpu();
    updateLossScale(state, found, this.#rule);
  }

  /** The present scale; 1 when it is not enabled. Waits for the GPU. */
  async getScale(): Promise<number> {
    return this.#enabled ? (await this.#gpu().state.data())[0]! : 1;
  }

  /** What a checkpoint needs. */
  stateDict(): GradScalerState {
    return { state: this.#gpu().state };
  }

  /** Goes on from a saved state; the caller keeps its tensor. */
  loadStateDict(saved: GradScalerState): void {
    noGrad(() => this.#gpu().state.copy_(saved.state));
  }

  /** Frees its memory. */
  [Symbol.dispose](): void {
    this.#memory?.state.dispose();
    this.#memory?.found.dispose();
    this.#memory = null;
  }
}
