/** @file The part of TensorFlow.js that the comparison calls. */

/** A tensor. */
export interface TfTensor {
  readonly shape: readonly number[];
  data(): Promise<Float32Array>;
  transpose(perm?: readonly number[]): TfTensor;
  reshape(shape: readonly number[]): TfTensor;
  toFloat(): TfTensor;
  sum(axis?: number): TfTensor;
  mul(other: TfTensor): TfTensor;
  clone(): TfTensor;
  dispose(): void;
}

/** Spatial zeros, a pair a dimension. */
export type TfPad = readonly (readonly [number, number])[] | number | "same" | "valid";

/** A layer, or a stack of them. */
export interface TfLayer {
  readonly trainableWeights: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    write(value: TfTensor): void;
  }[];
  apply(x: TfTensor, options?: { training: boolean }): TfTensor;
}

/** A variable's value and name. */
export interface TfVariable extends TfTensor {
  readonly name: string;
  assign(value: TfTensor): void;
}

/** What an optimizer does. */
export interface TfOptimizer {
  minimize(f: () => TfTensor, returnCost: boolean): TfTensor | null;
  applyGradients(gradients: Readonly<Record<string, TfTensor>>): void;
}

/** Options by name. */
type Options = Readonly<Record<string, unknown>>;

/** The module. */
export interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  backend(): unknown;
  env(): { set(flag: string, value: boolean | number): void };
  tidy<T>(f: () => T): T;
  dispose(tensors: readonly TfTensor[]): void;
  tensor(
    data: Float32Array | Int32Array,
    shape: readonly number[],
    dtype?: "float32" | "int32",
  ): TfTensor;
  scalar(value: number): TfTensor;
  variable(value: TfTensor, trainable?: boolean, name?: string): TfVariable;
  oneHot(classes: TfTensor, depth: number): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  conv2d(x: TfTensor, w: TfTensor, strides: readonly number[], pad: TfPad): TfTensor;
  depthwiseConv2d(x: TfTensor, w: TfTensor, strides: readonly number[], pad: TfPad): TfTensor;
  softmax(x: TfTensor, dim: number): TfTensor;
  moments(x: TfTensor, axis: readonly number[]): { mean: TfTensor; variance: TfTensor };
  batchNorm(
    x: TfTensor,
    mean: TfTensor,
    variance: TfTensor,
    offset: TfTensor,
    scale: TfTensor,
    eps: number,
  ): TfTensor;
  valueAndGrads(
    f: (...x: TfTensor[]) => TfTensor,
  ): (x: readonly TfTensor[], dy?: TfTensor) => { value: TfTensor; grads: TfTensor[] };
  variableGrads(f: () => TfTensor): { value: TfTensor; grads: Record<string, TfTensor> };
  readonly losses: {
    softmaxCrossEntropy(labels: TfTensor, logits: TfTensor): TfTensor;
  };
  readonly train: {
    momentum(lr: number, momentum: number): TfOptimizer;
    adam(lr: number, beta1: number, beta2: number, eps: number): TfOptimizer;
  };
  sequential(): TfLayer & { add(layer: TfLayer): void };
  readonly layers: Readonly<
    Record<
      | "conv2d"
      | "batchNormalization"
      | "activation"
      | "dropout"
      | "maxPooling2d"
      | "flatten"
      | "dense"
      | "lstm",
      (options?: Options) => TfLayer
    >
  >;
}
