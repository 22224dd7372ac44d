/**
 * @file Pieces of work as plain data, so that every library runs the same: shapes, random inputs, and the
 * floating-point operations they need.
 */

/** The product of two matrices: A [m, k] · B [k, n]. */
export interface Gemm {
  readonly op: "gemm";
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly dtype: "f32" | "f16";
}

/** Shape of a convolution: x [n, c, h, w] with weight [o, c / groups, kh, kw]. */
export interface ConvShape {
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
  readonly o: number;
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  /** Zeros above, below, left and right. */
  readonly padding: readonly [number, number, number, number];
  readonly groups: number;
}

/** A pass of a convolution; `train` is forward and both gradients. */
export type ConvPass = "forward" | "dX" | "dW" | "train";

/** A convolution. */
export interface Conv extends ConvShape {
  readonly op: "conv";
  readonly pass: ConvPass;
}

/** Something over the rows of a matrix, with its gradient for the loss and the normalisation. */
export interface Rows {
  readonly op: "softmax" | "cross entropy" | "sum rows" | "sum columns" | "transpose" | "copy";
  readonly rows: number;
  readonly columns: number;
}

/** Batch normalisation in training with all its gradients: x [n, c, h, w]. */
export interface BatchNorm {
  readonly op: "batch norm";
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
}

/** An LSTM layer over [n, steps, features]; `train` adds all gradients. */
export interface Lstm {
  readonly op: "lstm";
  readonly n: number;
  readonly steps: number;
  readonly features: number;
  readonly hidden: number;
  readonly pass: "forward" | "train";
}

/** One step of Adam over so many parameters. */
export interface AdamStep {
  readonly op: "adam";
  readonly parameters: number;
}

/** A whole training step of a model. */
export interface Step {
  readonly op: "step";
  readonly model:
    | "AlexNet"
    | "ResNet-50"
    | "EfficientNet-B0"
    | "ToySSD"
    | "MoCo"
    | "MoCo ConvNet"
    | "captioning"
    | "captioning decoder";
  readonly n: number;
  /** Side of the images. */
  readonly side: number;
  /** Whether products are in f16. */
  readonly amp?: boolean;
}

/** One piece of work. */
export type Work = Gemm | Conv | Rows | BatchNorm | Lstm | AdamStep | Step;

/** A random input of a piece of work: normal numbers, or classes below `classes`. */
export interface InputSpec {
  readonly shape: readonly number[];
  readonly scale: number;
  readonly classes?: number;
}

/** Height and width of what a convolution gives. */
export function convOutput(s: ConvShape): [number, number] {
  const [top, bottom, left, right] = s.padding;
  return [
    Math.floor((s.h + top + bottom - s.kernel[0]) / s.stride[0]) + 1,
    Math.floor((s.w + left + right - s.kernel[1]) / s.stride[1]) + 1,
  ];
}

/** The name of a piece of work: unique, with the shape in it. */
export function nameOf(work: Work): string {
  switch (work.op) {
    case "gemm": {
      const { m, k, n } = work;
      const size = m === k && k === n ? `${m}` : `${m}x${k}x${n}`;
      return `gemm ${size}${work.dtype === "f16" ? " f16" : ""}`;
    }
    case "conv":
      return `conv ${convText(work)} ${work.pass}`;
    case "batch norm":
      return `batch norm ${work.n}x${work.c}x${work.h}x${work.w} train`;
    case "lstm":
      return `lstm ${work.n}x${work.steps}x${work.features}, ${work.hidden} ${work.pass}`;
    case "adam":
      return `adam ${work.parameters / 2 ** 20}M`;
    case "step":
      return `step ${work.model} ${work.n} x ${work.side}${work.amp ? " amp" : ""}`;
    default:
      return `${work.op} ${work.rows}x${work.columns}`;
  }
}

/** A convolution's shape in words, e.g. `8x64x27x27 -> 192, 5x5 / 2 + 2 g4`. */
export function convText(s: ConvShape): string {
  const [top, bottom, left, right] = s.padding;
  const even = top === bottom && left === right && top === left;
  const padding = even ? (top ? ` + ${top}` : "") : ` + ${s.padding.join("")}`;
  return `${s.n}x${s.c}x${s.h}x${s.w} -> ${s.o}, ${s.kernel.join("x")}` +
    (s.stride[0] > 1 ? ` / ${s.stride[0]}` : "") + padding + (s.groups > 1 ? ` g${s.groups}` : "");
}

/** Random inputs of a piece of work, in the order the libraries take them. */
export function inputsOf(work: Work): InputSpec[] {
  const normal = (shape: readonly number[], scale = 1) => ({ shape, scale });
  switch (work.op) {
    case "gemm":
      return [normal([work.m, work.k]), normal([work.k, work.n])];
    case "conv": {
      const { n, c, h, w, o, kernel: [kh, kw], groups } = work;
      const fan = c / groups * kh * kw;
      return [
        normal([n, c, h, w]),
        normal([o, c / groups, kh, kw], 1 / Math.sqrt(fan)),
        normal([n, o, ...convOutput(work)]),
      ];
    }
    case "cross entropy":
      return [
        normal([work.rows, work.columns]),
        { shape: [work.rows], scale: 1, classes: work.columns },
      ];
    case "batch norm": {
      const { n, c, h, w } = work;
      return [normal([n, c, h, w]), normal([c]), normal([c]), normal([n, c, h, w])];
    }
    case "lstm": {
      const { n, steps, features, hidden } = work;
      const scale = 1 / Math.sqrt(hidden);
      return [
        normal([n, steps, features]),
        normal([4 * hidden, features], scale),
        normal([4 * hidden, hidden], scale),
        normal([4 * hidden], scale),
        normal([n, steps, hidden]),
      ];
    }
    case "adam":
      return [normal([work.parameters]), normal([work.parameters])];
    case "step":
      return [];
    default:
      return [normal([work.rows, work.columns])];
  }
}

/** Multiply-adds count two; NaN where it is not a matter of arithmetic. */
export function flopsOf(work: Work): number {
  switch (work.op) {
    case "gemm":
      return 2 * work.m * work.k * work.n;
    case "conv": {
      const { n, c, o, kernel: [kh, kw], groups, pass } = work;
      const [oh, ow] = convOutput(work);
      return (pass === "train" ? 6 : 2) * n * o * oh * ow * (c / groups) * kh * kw;
    }
    case "lstm": {
      const { n, steps, features, hidden, pass } = work;
      return (pass === "train" ? 6 : 2) * n * steps * 4 * hidden * (features + hidden);
    }
    default:
      return NaN;
  }
}
