/** Arguments of layers, initialisers, optimizers and metrics that types rule out but habits do not. */

import { assertEquals, assertThrows } from "@std/assert";
import { init, nn, ones, randn, tensor, zeros } from "../../mod.ts";

await init();

/** What types forbid. */
// deno-lint-ignore no-explicit-any
const any = (value: unknown) => value as any;
const sgd = () => new nn.optim.SGD(new nn.Linear(1, 1).parameters());

/** Calls, and the messages they must throw. */
function check(kind: typeof Error, cases: [() => unknown, string][]): void {
  for (const [fn, message] of cases) {
    const error = assertThrows(fn) as Error;
    assertEquals(error.message, message);
    assertEquals(error.constructor, kind, message);
  }
}

Deno.test("options of nn that are words must be one of those there are", () => {
  const w = zeros([2, 3]);
  const ids = tensor([0, 1], { dtype: "i32" });
  const reduction = "it must be mean, sum or none";
  check(TypeError, [
    [
      () => nn.init.kaimingUniform(w, { mode: any("fan_in") }),
      'Cannot initialise with mode "fan_in": it must be fanIn or fanOut',
    ],
    [
      () => nn.init.kaimingNormal(w, { nonlinearity: any("leaky_relu") }),
      'Cannot calculate the gain with nonlinearity "leaky_relu": it must be linear, conv1d, conv2d, ' +
      "sigmoid, tanh, relu, leakyRelu or selu",
    ],
    [
      () => nn.init.mxnetXavier(w, { factor: any("fan_in") }),
      'Cannot initialise with factor "fan_in": it must be avg, in or out',
    ],
    [
      () => nn.init.mxnetXavier(w, { distribution: any("gaussian") }),
      'Cannot initialise with distribution "gaussian": it must be uniform or normal',
    ],
    [
      () => new nn.optim.ReduceLROnPlateau(sgd(), { mode: any("minimum") }),
      'Cannot use ReduceLROnPlateau with mode "minimum": it must be min or max',
    ],
    [
      () => new nn.optim.ReduceLROnPlateau(sgd(), { thresholdMode: any("relative") }),
      'Cannot use ReduceLROnPlateau with thresholdMode "relative": it must be rel or abs',
    ],
    [
      () => new nn.optim.EarlyStopping({ patience: 1, mode: any("maximum") }),
      'Cannot stop early with mode "maximum": it must be min or max',
    ],
    [
      () =>
        new nn.optim.OneCycleLR(sgd(), { maxLr: 1, totalSteps: 2, annealStrategy: any("cosine") }),
      'Cannot use OneCycleLR with annealStrategy "cosine": it must be cos or linear',
    ],
    [
      () => nn.metrics.accuracy(w, ids, { reduction: any("none") }),
      'Cannot take accuracy with reduction "none": it must be mean or sum',
    ],
    [
      () => new nn.RNN(2, 2, { nonlinearity: any("sigmoid") }),
      'Cannot make RNN with nonlinearity "sigmoid": it must be tanh or relu',
    ],
    [
      () => new nn.RNNCell(2, 2, { nonlinearity: any("lstm") }),
      'Cannot make RNNCell with nonlinearity "lstm": it must be tanh or relu',
    ],
    [
      () => new nn.Conv2d(1, 1, { kernelSize: 3, padding: any("full") }),
      'Cannot make Conv2d with padding "full": it must be same or valid',
    ],
    [
      () => new nn.Conv1d(1, 1, { kernelSize: 3, padding: any("full") }),
      'Cannot make Conv1d with padding "full": it must be same or valid',
    ],
    [
      () => new nn.MSELoss({ reduction: any("avg") }),
      `Cannot make MSELoss with reduction "avg": ${reduction}`,
    ],
    [
      () => new nn.CrossEntropyLoss({ reduction: any("avg") }),
      `Cannot make CrossEntropyLoss with reduction "avg": ${reduction}`,
    ],
    [
      () => new nn.KLDivLoss({ reduction: any("avg") }),
      'Cannot make KLDivLoss with reduction "avg": it must be mean, sum, none or batchmean',
    ],
  ]);
});

Deno.test("PyTorch's next arguments are answered with the call that is right", () => {
  const params = new nn.Linear(1, 1).parameters();
  check(TypeError, [
    [
      () => new nn.Conv2d(3, 8, any(3)),
      "Cannot make Conv2d with options 3: write new nn.Conv2d(3, 8, { kernelSize: 3 })",
    ],
    [
      () => new nn.ConvTranspose2d(3, 8, any([3, 3])),
      "Cannot make ConvTranspose2d with options [3, 3]: write new nn.ConvTranspose2d(3, 8, { " +
      "kernelSize: 3 })",
    ],
    [
      () => new nn.Conv1d(4, 4, any(undefined)),
      "Cannot make Conv1d with options undefined: write new nn.Conv1d(4, 8, { kernelSize: 3 })",
    ],
    [
      () => new nn.Conv2d(3, 8, any({ kernel: 3 })),
      "Cannot make Conv2d with kernelSize undefined: it must be a number or [height, width]",
    ],
    [
      () => new nn.MaxPool2d(any({ kernelSize: 2 })),
      "Cannot make MaxPool2d with kernelSize an object with kernelSize: it must be a number or " +
      "[height, width], as in new nn.MaxPool2d(2)",
    ],
    [
      () => new nn.MaxPool2d(3, any(2)),
      "Cannot make MaxPool2d with options 2: write new nn.MaxPool2d(3, { stride: 2 })",
    ],
    [
      () => new nn.AvgPool2d(3, any(2)),
      "Cannot make AvgPool2d with options 2: write new nn.AvgPool2d(3, { stride: 2 })",
    ],
    [
      () => new nn.Linear(8, 2, any(false)),
      "Cannot make Linear with options false: write new nn.Linear(8, 2, { bias: false })",
    ],
    [
      () => new nn.LSTM(8, 16, any(2)),
      "Cannot make LSTM with options 2: write new nn.LSTM(8, 16, { numLayers: 2 })",
    ],
    [
      () => new nn.optim.SGD(params, any(0.1)),
      "Cannot make SGD with options 0.1: write new SGD(params, { lr: 0.1 })",
    ],
    [
      () => new nn.optim.AdamW(params, any(0.1)),
      "Cannot make AdamW with options 0.1: write new AdamW(params, { lr: 1e-3 })",
    ],
    [
      () =>
        new nn.MultiheadAttention(4, 2).forward(randn([2, 1, 4]), { keyPaddingMask: ones([1, 2]) }),
      "Cannot attend with a keyPaddingMask of dtype f32: it must be bool, true for keys that no query " +
      "may see; attnMask takes floats",
    ],
  ]);
});

Deno.test("sizes and factors of nn must be in range", () => {
  check(RangeError, [
    [
      () => new nn.MaxPool2d(1.5),
      "Cannot make MaxPool2d with kernelSize 1.5: it must be a whole number of at least 1",
    ],
    [
      () => new nn.Conv2d(1, 1, { kernelSize: 3, padding: [0, NaN] }),
      "Cannot make Conv2d with padding NaN: it must be a whole number of at least 0",
    ],
    [
      () => new nn.optim.RMSprop(new nn.Linear(1, 1).parameters(), { alpha: 2 }),
      "Cannot use RMSprop with alpha 2: it must be 0 to 1",
    ],
    [
      () => new nn.optim.ReduceLROnPlateau(sgd(), { factor: -0.5 }),
      "Cannot use ReduceLROnPlateau with factor -0.5: it must be at least 0 and below 1",
    ],
  ]);
});

Deno.test("valid padding is none", () => {
  const conv = new nn.Conv2d(1, 1, { kernelSize: 3, padding: "valid" });
  assertEquals(conv.padding, [0, 0]);
  assertEquals(conv.forward(zeros([1, 1, 4, 4])).shape, [1, 1, 2, 2]);
  const line = new nn.Conv1d(1, 1, { kernelSize: 3, padding: "valid" });
  assertEquals(line.forward(zeros([1, 1, 4])).shape, [1, 1, 2]);
});
