/** @file Momentum contrast: two encoders and a queue of keys. */

import { checkOptions } from "../../engine/arguments.ts";
import {
  arange,
  cat,
  crossEntropy,
  noGrad,
  normalize,
  randn,
  randperm,
  type Tensor,
  zeros,
} from "../../engine/mod.ts";
import { Module } from "../module.ts";
import { EMA } from "../optim/ema.ts";

/** A module that maps images to features [N, dim]. */
export type Encoder = Module & {
  /** Features of images. */
  forward(x: Tensor): Tensor;
};

/** Options of {@linkcode MoCo}. */
export interface MoCoOptions {
  /** Makes an encoder; called twice. Both start with the weights of the first. */
  encoder: () => Encoder;
  /** Features of an encoder. Default 512. */
  dim?: number;
  /** Keys in the queue; a multiple of the keys of a step. Default 4096. */
  queueSize?: number;
  /** Share of the key encoder that stays at a step. Default 0.99. */
  momentum?: number;
  /** Divisor of the similarities. Default 0.07. */
  temperature?: number;
  /** Whether both views are query and key in turn. Default true. */
  symmetric?: boolean;
}

/**
 * Momentum contrast (He et al., "Momentum contrast for unsupervised visual representation learning",
 * https://arxiv.org/abs/1911.05722).
 *
 * The loss is the cross entropy of telling a query's own key from the keys in the queue:
 * logits = [q · k, q · queue] / temperature, with q and k of length 1. The key encoder follows the query
 * encoder with momentum. Queue, pointer, momentum update and the shuffle that keeps batch statistics of
 * keys and queries apart all stay on the GPU, so a step can be captured.
 */
export class MoCo extends Module {
  /** Encoder of queries; the one that is trained. */
  encoder_q: Encoder;
  /** Encoder of keys. */
  encoder_k: Encoder;
  /** Keys, one a column: f32 [dim, queueSize]. */
  declare queue: Tensor;
  /** Column where the next key goes: i32 [1]. */
  declare queue_ptr: Tensor;
  readonly #average: EMA;
  readonly #temperature: number;
  readonly #symmetric: boolean;
  readonly #queueSize: number;

  /** @throws {RangeError} If an option is out of range. */
  constructor(options: MoCoOptions) {
    checkOptions("make MoCo", options, "moco({ encoder, dim: 128 })");
    super();
    const { dim = 512, queueSize = 4096, momentum = 0.99, temperature = 0.07, symmetric = true } =
      options;
    for (
      const [name, value, fits] of [
        ["dim", dim, Number.isInteger(dim) && dim > 0],
        ["queueSize", queueSize, Number.isInteger(queueSize) && queueSize > 0],
        ["momentum", momentum, momentum >= 0 && momentum <= 1],
        ["temperature", temperature, temperature > 0],
      ] as const
    ) {
      if (!fits) throw new RangeError(`Cannot make MoCo with ${name} ${value}: it is out of range`);
    }
    this.#temperature = temperature;
    this.#symmetric = symmetric;
    this.#queueSize = queueSize;
    this.encoder_q = options.encoder();
    this.encoder_k = options.encoder();
    noGrad(() => {
      const start = this.encoder_q.parameters();
      this.encoder_k.parameters().forEach((p, i) => p.copy_(start[i]!));
    });
    this.encoder_k.requiresGrad_(false);
    this.#average = new EMA({ decay: momentum });
    this.registerBuffer("queue", noGrad(() => normalize(randn([dim, queueSize]), { dim: 0 })));
    this.registerBuffer("queue_ptr", zeros([1], { dtype: "i32" }));
  }

  /**
   * The loss of two views of the same images, each [N, C, H, W] → f32 []. Moves the key encoder and the
   * queue.
   *
   * @throws {RangeError} If the keys of a step do not divide the queue.
   */
  override forward(first: Tensor, second: Tensor): Tensor {
    const keys = first.shape[0]! * (this.#symmetric ? 2 : 1);
    if (this.#queueSize % keys !== 0) {
      throw new RangeError(
        `Cannot queue ${keys} keys a step: the queue of ${this.#queueSize} must be a multiple of them`,
      );
    }
    this.#average.update(this.encoder_k.parameters(), this.encoder_q.parameters());
    // What the backward pass reads, since the queue has moved on by then.
    const queue = this.queue.detach().clone();
    const a = this.#contrast(first, second, queue);
    if (!this.#symmetric) {
      noGrad(() => this.#enqueue(a.keys));
      return a.loss;
    }
    const b = this.#contrast(second, first, queue);
    noGrad(() => this.#enqueue(cat([b.keys, a.keys])));
    return a.loss.add(b.loss);
  }

  #contrast(queries: Tensor, images: Tensor, queue: Tensor): { loss: Tensor; keys: Tensor } {
    const q = normalize(this.encoder_q.forward(queries), { dim: 1 });
    const keys = noGrad(() => {
      // Another order, so that a query's batch statistics do not give its own key away.
      const order = randperm(images.shape[0]!);
      const k = normalize(this.encoder_k.forward(images.indexSelect(0, order)), { dim: 1 });
      return k.indexSelect(0, order.argsort());
    });
    const positive = q.mul(keys).sum(1, { keepdim: true });
    const negative = q.matmul(queue);
    const logits = cat([positive, negative], 1).div(this.#temperature);
    const target = zeros([queries.shape[0]!], { dtype: "i32" });
    return { loss: crossEntropy(logits, target), keys: keys.detach() };
  }

  /** Overwrites the oldest keys. */
  #enqueue(keys: Tensor): void {
    const n = keys.shape[0]!;
    const columns = this.queue_ptr.add(arange(n)).remainder(this.#queueSize).to("i32");
    this.queue.indexCopy_(1, columns, keys.transpose(0, 1));
    this.queue_ptr.copy_(this.queue_ptr.add(n).remainder(this.#queueSize).to("i32"));
  }

  override dispose(): void {
    super.dispose();
    this.#average[Symbol.dispose]();
  }
}

/** A new {@linkcode MoCo}. */
export function moco(options: MoCoOptions): MoCo {
  return new MoCo(options);
}
