/** @file Every convolution of the models, found by running them. */

import { nn, noGrad, samePadding, scope, type Tensor, zeros } from "../mod.ts";
import { convOutput, type ConvShape } from "./work.ts";

/** A convolution and the models that have it. */
export interface ModelConv {
  /** For one image. */
  readonly shape: ConvShape;
  /** Names of the models. */
  readonly from: readonly string[];
}

type Walked = nn.Module & { forward(x: Tensor): unknown };

/** The models of the experiments, with the side of their images. */
const MODELS: readonly (readonly [name: string, make: () => Walked, side: number])[] = [
  ["AlexNet", () => nn.models.alexnet({ numClasses: 26 }), 224],
  ["ResNet-50", () => nn.models.resnet50({ numClasses: 0 }), 224],
  ["EfficientNet-B0", () => nn.models.efficientnetB0({ numClasses: 264 }), 224],
  ["ToySSD", () => nn.models.toySsd({ numClasses: 2 }), 256],
  ["MoCo ConvNet", () => nn.models.convNet(), 32],
];

let known: readonly ModelConv[] | undefined;

/** Shapes of all convolutions of the models in order of first use, each once. */
export function modelConvs(): readonly ModelConv[] {
  return known ??= walk();
}

function walk(): ModelConv[] {
  const found = new Map<string, { shape: ConvShape; from: string[] }>();
  for (const [name, make, side] of MODELS) {
    for (const shape of convsOf(make, side)) {
      const key = JSON.stringify(shape);
      const entry = found.get(key) ?? { shape, from: [] };
      if (!entry.from.includes(name)) entry.from.push(name);
      found.set(key, entry);
    }
  }
  return [...found.values()];
}

/** Shapes that a model's convolutions see for one image; they give zeros without computing. */
function convsOf(make: () => Walked, side: number): ConvShape[] {
  const shapes: ConvShape[] = [];
  scope(() => {
    using model = make().eval();
    for (const layer of model.modules()) {
      if (!(layer instanceof nn.Conv2d)) continue;
      const watched = (x: Tensor): Tensor => {
        const shape = shapeOf(layer, x.shape);
        shapes.push(shape);
        return zeros([1, shape.o, ...convOutput(shape)]);
      };
      Object.assign(layer, { forward: watched });
    }
    noGrad(() => void model.forward(zeros([1, 3, side, side])));
  });
  return shapes;
}

function shapeOf(layer: nn.Conv2d, [, c, h, w]: readonly number[]): ConvShape {
  const { kernelSize: kernel, stride, groups, outChannels: o } = layer;
  return {
    n: 1,
    c: c!,
    h: h!,
    w: w!,
    o,
    kernel,
    stride,
    padding: paddingOf(layer, [h!, w!]),
    groups,
  };
}

function paddingOf(layer: nn.Conv2d, size: readonly [number, number]): ConvShape["padding"] {
  const { padding, kernelSize, stride } = layer;
  if (padding === "same" || layer instanceof nn.Conv2dSame) {
    const along = (d: 0 | 1) =>
      samePadding(size[d], { kernel: kernelSize[d], stride: stride[d], dilation: 1 });
    return [...along(0), ...along(1)] as unknown as ConvShape["padding"];
  }
  if ("top" in padding) return [padding.top, padding.bottom, padding.left, padding.right];
  return [padding[0], padding[0], padding[1], padding[1]];
}
