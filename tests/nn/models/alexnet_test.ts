import { assert, assertEquals, assertThrows } from "@std/assert";
import { crossEntropy, init, manualSeed, nn, randn, readAll, scope, tensor } from "../../../mod.ts";

await init();

const { alexnet } = nn.models;

/** Number of learned numbers. */
function count(model: nn.Module): number {
  return model.parameters().reduce((n, p) => n + p.size, 0);
}

/** Names and shapes of torchvision's `alexnet(num_classes=26)` with one input channel. */
const STATE = {
  "features.0.weight": [64, 1, 11, 11],
  "features.0.bias": [64],
  "features.3.weight": [192, 64, 5, 5],
  "features.3.bias": [192],
  "features.6.weight": [384, 192, 3, 3],
  "features.6.bias": [384],
  "features.8.weight": [256, 384, 3, 3],
  "features.8.bias": [256],
  "features.10.weight": [256, 256, 3, 3],
  "features.10.bias": [256],
  "classifier.1.weight": [4096, 9216],
  "classifier.1.bias": [4096],
  "classifier.4.weight": [4096, 4096],
  "classifier.4.bias": [4096],
  "classifier.6.weight": [26, 4096],
  "classifier.6.bias": [26],
};

Deno.test("alexnet() has torchvision's 61,100,840 parameters", () => {
  using model = alexnet();
  assertEquals(count(model), 61_100_840);
});

Deno.test("alexnet() with 26 classes and one channel has 57,094,874 under torchvision's names", () => {
  using model = alexnet({ numClasses: 26, inChannels: 1 });
  assertEquals(count(model), 57_094_874);
  const shapes = Object.entries(model.stateDict()).map(([name, t]) => [name, [...t.shape]]);
  assertEquals(shapes, Object.entries(STATE));
  assertEquals(
    `${model}`,
    `AlexNet(
  (features): Sequential(
    (0): Conv2d(1, 64, kernel_size=(11, 11), stride=(4, 4), padding=(2, 2))
    (1): ReLU()
    (2): MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
    (3): Conv2d(64, 192, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))
    (4): ReLU()
    (5): MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
    (6): Conv2d(192, 384, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (7): ReLU()
    (8): Conv2d(384, 256, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (9): ReLU()
    (10): Conv2d(256, 256, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (11): ReLU()
    (12): MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
  )
  (avgpool): AdaptiveAvgPool2d(output_size=(6, 6))
  (classifier): Sequential(
    (0): Dropout(p=0.5, inplace=False)
    (1): Linear(in_features=9216, out_features=4096, bias=True)
    (2): ReLU()
    (3): Dropout(p=0.5, inplace=False)
    (4): Linear(in_features=4096, out_features=4096, bias=True)
    (5): ReLU()
    (6): Linear(in_features=4096, out_features=26, bias=True)
  )
)`,
  );
  // Outputs add up to 1,097,242 numbers: 8 bytes each with their gradients.
  const table = model.summary([1, 224, 224]).split("\n");
  assertEquals(table.length, 21 + 13);
  assertEquals(table[3], "            Conv2d-1           [-1, 64, 55, 55]           7,808");
  assertEquals(table[16], "AdaptiveAvgPool2d-14            [-1, 256, 6, 6]               0");
  assertEquals(table.slice(-9), [
    "Total params: 57,094,874",
    "Trainable params: 57,094,874",
    "Non-trainable params: 0",
    "-".repeat(64),
    "Input size (MB): 0.19",
    "Forward/backward pass size (MB): 8.37",
    "Params size (MB): 217.80",
    "Estimated Total Size (MB): 226.36",
    "-".repeat(64),
  ]);
});

Deno.test("alexnet() scales its width in multiples of 8", () => {
  using model = alexnet({ numClasses: 26, inChannels: 1, width: 0.1, poolSize: 1 });
  // 6.4, 19.2, 38.4, 25.6 channels and 409.6 features.
  assertEquals(Object.values(model.stateDict()).map((t) => t.shape[0]), [
    ...[8, 8, 16, 16, 40, 40, 24, 24, 24, 24],
    ...[408, 408, 408, 408, 26, 26],
  ]);
  assertEquals(model.stateDict()["classifier.1.weight"]!.shape, [408, 24]);
});

Deno.test("alexnet() maps images of 64 x 64 to logits and every parameter gets a gradient", async () => {
  manualSeed(2);
  using model = alexnet({ numClasses: 5, inChannels: 1, width: 0.125, poolSize: 1 });
  const { loss, logits } = scope(() => {
    const logits = model.forward(randn([3, 1, 64, 64]));
    const loss = crossEntropy(logits, tensor([0, 4, 2], { dtype: "i32" }));
    loss.backward();
    return { loss, logits };
  });
  assertEquals(logits.shape, [3, 5]);
  const names = model.namedParameters().map(([name]) => name);
  const [value, ...grads] = await readAll([loss, ...model.parameters().map((p) => p.grad!)]);
  // Near ln 5 = 1.609 before training.
  assert(Math.abs(value![0]! - Math.log(5)) < 0.2, `loss ${value}`);
  grads.forEach((g, i) => assert(g.some((v) => v !== 0), `${names[i]} has a zero gradient`));
  loss.dispose();
  logits.dispose();
});

Deno.test("alexnet() drops out in training only", async () => {
  manualSeed(2);
  using model = alexnet({ numClasses: 3, width: 0.125, poolSize: 1 });
  const layers = [0, 3].map((i) => model.classifier[i] as nn.Dropout);
  assertEquals(layers.map((layer) => layer.p), [0.5, 0.5]);
  using x = randn([2, 3, 64, 64]);
  const twice = () => scope(() => [model.forward(x), model.forward(x)]);
  const [a, b, c, d] = await readAll([...twice(), ...(model.eval(), twice())]);
  assert(a!.some((v, i) => v !== b![i]));
  assertEquals(c, d);
});

Deno.test("alexnet() names the option that is out of range", () => {
  assertThrows(() => alexnet({ width: 0 }), RangeError, "AlexNet with width 0");
  assertThrows(() => alexnet({ width: 0.01, numClasses: 0 }), RangeError, "outFeatures 0");
  assertThrows(() => alexnet({ width: 0.01, poolSize: 0 }), RangeError, "outputSize 0");
  assertThrows(() => alexnet({ width: 0.01, dropout: 2 }), RangeError, "Dropout with p 2");
});
