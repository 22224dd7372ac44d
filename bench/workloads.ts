/** @file The named pieces of work that `deno task bench` times, each with the model it comes from. */

import { conv2d, crossEntropy, maxPool2d, nn, randint, randn, type Tensor } from "../mod.ts";

/** One piece of work. */
export interface Workload {
  /** Unique, with the shape in it. */
  readonly name: string;
  /** The model or layer it is taken from. */
  readonly from: string;
  /** Makes random inputs once; the function it gives runs the work. */
  build(): () => void;
}

/** A convolution of a model: input, output channels, kernel, stride, padding. */
type ConvShape = readonly [
  from: string,
  x: readonly [number, number, number],
  o: number,
  k: number,
  stride: number,
  padding: number,
  groups?: number,
];

const CONVS: readonly ConvShape[] = [
  ["AlexNet conv1", [1, 224, 224], 64, 11, 4, 2],
  ["AlexNet conv2", [64, 27, 27], 192, 5, 1, 2],
  ["AlexNet conv4", [384, 13, 13], 256, 3, 1, 1],
  ["ResNet-50 conv1", [3, 224, 224], 64, 7, 2, 3],
  ["ResNet-50 layer1 3x3", [64, 56, 56], 64, 3, 1, 1],
  ["ResNet-50 layer2 1x1", [512, 28, 28], 128, 1, 1, 0],
  ["ResNet-50 layer3 3x3", [256, 14, 14], 256, 3, 1, 1],
  ["ResNet-50 layer4 3x3 stride 2", [512, 14, 14], 512, 3, 2, 1],
  ["MoCo ConvNet conv2", [32, 15, 15], 64, 3, 1, 0],
  ["ToySSD body", [32, 64, 64], 32, 3, 1, 1],
  ["EfficientNet-B0 depthwise 5x5", [240, 28, 28], 240, 5, 1, 2, 240],
  ["TensorFlow.js table", [32, 32, 32], 64, 3, 1, 1],
];

const GEMMS = [256, 512, 1024, 2048, 4096];

/** Everything, for images in batches of `batch`; sizes over `largest` FLOPs are left out. */
export function workloads(options: { batch: number; largest: number }): Workload[] {
  const { batch, largest } = options;
  const all: (Workload & { flops: number })[] = [];
  for (const n of GEMMS) {
    all.push({
      name: `gemm ${n}`,
      from: "square matrices, f32",
      flops: 2 * n ** 3,
      build() {
        const [a, b] = [randn([n, n]), randn([n, n])];
        return () => a.matmul(b).dispose();
      },
    });
  }
  for (const [from, [c, h, w], o, k, stride, padding, groups = 1] of CONVS) {
    const shape = `${batch}x${c}x${h}x${w} -> ${o}, ${k}x${k}${stride > 1 ? ` / ${stride}` : ""}`;
    const side = Math.floor((h + 2 * padding - k) / stride) + 1;
    const flops = 2 * batch * o * (c / groups) * k * k * side * side;
    const inputs = () => {
      const x = randn([batch, c, h, w]);
      const weight = randn([o, c / groups, k, k]).mul(1 / k);
      return { x, weight, dy: randn([batch, o, side, side]) };
    };
    const options = { stride, padding, groups };
    all.push({
      name: `conv ${shape}`,
      from,
      flops,
      build() {
        const { x, weight } = inputs();
        return () => conv2d(x, weight, options).dispose();
      },
    });
    all.push({
      name: `conv with both gradients ${shape}`,
      from,
      flops: 3 * flops,
      build() {
        const { x, weight, dy } = inputs();
        const [gx, gw] = [x.requiresGrad_(), weight.detach().requiresGrad_()];
        return () => {
          [gx.grad, gw.grad] = [null, null];
          using y = conv2d(gx, gw, options);
          y.backward(dy);
        };
      },
    });
  }
  const plain = (name: string, from: string, build: Workload["build"]) =>
    all.push({ name, from, flops: 0, build });
  plain("relu 16M", "elementwise", () => {
    const x = randn([1 << 24]);
    return () => x.relu().dispose();
  });
  plain("sum 4096x4096 rows", "reduction", () => {
    const x = randn([4096, 4096]);
    return () => x.sum(1).dispose();
  });
  plain("sum 4096x4096 columns", "reduction", () => {
    const x = randn([4096, 4096]);
    return () => x.sum(0).dispose();
  });
  plain("transpose copy 4096x4096", "layout", () => {
    const x = randn([4096, 4096]);
    return () => x.transpose(0, 1).contiguous().dispose();
  });
  plain("softmax 64x8492", "captioning vocabulary", () => {
    const x = randn([64, 8492]);
    return () => x.softmax(1).dispose();
  });
  plain("cross entropy 64x8492 with gradient", "captioning vocabulary", () => {
    const x = randn([64, 8492]).requiresGrad_();
    const y = randint(0, 8492, { shape: [64] });
    return () => {
      x.grad = null;
      crossEntropy(x, y).backward();
    };
  });
  plain(`max pool ${batch}x64x55x55`, "AlexNet", () => {
    const x = randn([batch, 64, 55, 55]);
    return () => maxPool2d(x, 3, { stride: 2 }).dispose();
  });
  plain("SGD over 8M parameters", "optimizer", () => {
    const p = new nn.Parameter(randn([1 << 23]));
    p.grad = randn([1 << 23]);
    const optimizer = new nn.optim.SGD([p], { lr: 1e-6, momentum: 0.9 });
    return () => optimizer.step();
  });
  plain("Adam over 8M parameters", "optimizer", () => {
    const p = new nn.Parameter(randn([1 << 23]));
    p.grad = randn([1 << 23]);
    const optimizer = new nn.optim.Adam([p], { lr: 1e-6 });
    return () => optimizer.step();
  });
  for (const [name, make, shape] of TRAINING) {
    plain(`training step ${name}, batch ${batch}`, "forward, backward, SGD", () => {
      const model = make();
      const optimizer = new nn.optim.SGD(model.parameters(), { lr: 1e-3, momentum: 0.9 });
      const x = randn([batch, ...shape]);
      const y = randint(0, 10, { shape: [batch] });
      return () => {
        optimizer.zeroGrad();
        using loss = crossEntropy(model.forward(x) as Tensor, y);
        loss.backward();
        optimizer.step();
      };
    });
  }
  return all.filter((w) => w.flops <= largest);
}

type Classifier = nn.Module & { forward(x: Tensor): Tensor };
const TRAINING: readonly [string, () => Classifier, readonly number[]][] = [
  [
    "letters AlexNet (quick)",
    () =>
      nn.models.alexnet({ numClasses: 26, inChannels: 1, width: 0.1875, poolSize: 1, dropout: 0 }),
    [
      1,
      64,
      64,
    ],
  ],
  ["MoCo ConvNet", () => nn.models.convNet({ outFeatures: 128 }), [3, 32, 32]],
  ["ResNet-18 at 64x64", () => nn.models.resnet18({ numClasses: 10 }), [3, 64, 64]],
];
