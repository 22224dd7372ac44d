/** One sample in place of a batch, where PyTorch takes it: what a batch of it alone gives, without the batch. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adaptiveAvgPool2d,
  adaptiveMaxPool2d,
  avgPool2d,
  conv1d,
  conv2d,
  conv3d,
  convTranspose1d,
  convTranspose2d,
  convTranspose3d,
  init,
  linear,
  manualSeed,
  maxPool2d,
  nn,
  ones,
  randn,
  readAll,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";

await init();
manualSeed(21);

/** A function, the shape of a sample, and where the batch is in what it takes and in each thing that it gives. */
interface Case {
  readonly f: (x: Tensor) => Tensor | readonly Tensor[];
  readonly shape: readonly number[];
  readonly at?: number;
  readonly out?: readonly number[];
  readonly batched?: (x: Tensor) => Tensor | readonly Tensor[];
}

const weight = (...shape: number[]) => randn(shape);
const layer = (module: { forward(x: Tensor): Tensor }) => (x: Tensor) => module.forward(x);

const [w3, w2, t3, t2, bias] = [
  weight(4, 1, 3, 3),
  weight(4, 3, 3),
  weight(2, 4, 3, 3),
  weight(3, 4, 3),
  weight(4),
];
const [w5, t5] = [weight(4, 3, 2, 2, 2), weight(3, 4, 2, 2, 2)];
const lstm = new nn.LSTM(3, 5, { numLayers: 2, bidirectional: true });
const gru = new nn.GRU(3, 5, { batchFirst: true });
const rnn = new nn.RNN(3, 5, { nonlinearity: "relu" });
const [h0, c0] = [weight(4, 5), weight(4, 5)];
const [lstmCell, gruCell, rnnCell] = [
  new nn.LSTMCell(3, 5),
  new nn.GRUCell(3, 5),
  new nn.RNNCell(3, 5),
];
const [h, c] = [weight(5), weight(5)];
const attention = new nn.MultiheadAttention(8, 2);
const first = new nn.MultiheadAttention(8, 2, { batchFirst: true, kdim: 3, vdim: 4 });
const [key, value] = [weight(6, 3), weight(6, 4)];
const hidden = tensor([false, true, false, false, true], { dtype: "bool" });
const each = tensor(Array.from({ length: 60 }, (_, i) => i % 7 === 6), {
  dtype: "bool",
  shape: [2, 5, 6],
});
const encoder = new nn.TransformerEncoder(
  new nn.TransformerEncoderLayer(8, 2, { dimFeedforward: 12 }),
  2,
).eval();
const decoder = new nn.TransformerDecoderLayer(8, 2, { dimFeedforward: 12, batchFirst: true })
  .eval();
const memory = weight(7, 8);

const CASES: Readonly<Record<string, Case>> = {
  conv2d: {
    f: (x) => conv2d(x, w3, { groups: 2, bias, padding: "same", activation: "relu" }),
    shape: [2, 7, 6],
  },
  conv1d: { f: (x) => conv1d(x, w2, { bias, padding: [1, 0], stride: 2 }), shape: [3, 9] },
  convTranspose2d: { f: (x) => convTranspose2d(x, t3, { stride: 2 }), shape: [2, 4, 3] },
  convTranspose1d: { f: (x) => convTranspose1d(x, t2, { bias, padding: 1 }), shape: [3, 5] },
  maxPool2d: { f: (x) => maxPool2d(x, 2), shape: [3, 6, 7] },
  avgPool2d: { f: (x) => avgPool2d(x, [3, 2], { padding: 1 }), shape: [3, 6, 7] },
  adaptiveAvgPool2d: { f: (x) => adaptiveAvgPool2d(x, [2, 3]), shape: [3, 6, 7] },
  adaptiveMaxPool2d: { f: (x) => adaptiveMaxPool2d(x, 3), shape: [3, 6, 7] },
  Conv2d: { f: layer(new nn.Conv2d(3, 4, { kernelSize: 3 })), shape: [3, 6, 7] },
  Conv2dSame: { f: layer(new nn.Conv2dSame(3, 4, { kernelSize: 3, stride: 2 })), shape: [3, 6, 7] },
  Conv1d: { f: layer(new nn.Conv1d(3, 4, { kernelSize: 3 })), shape: [3, 6] },
  ConvTranspose2d: { f: layer(new nn.ConvTranspose2d(3, 4, { kernelSize: 3 })), shape: [3, 6, 7] },
  ConvTranspose1d: { f: layer(new nn.ConvTranspose1d(3, 4, { kernelSize: 3 })), shape: [3, 6] },
  "a Sequential": {
    f: layer(
      new nn.Sequential(
        new nn.Conv2d(3, 4, { kernelSize: 3 }),
        new nn.ReLU(),
        new nn.MaxPool2d(2),
      ),
    ),
    shape: [3, 8, 8],
  },
  MaxPool2d: { f: layer(new nn.MaxPool2d(3, { stride: 1, padding: 1 })), shape: [3, 6, 7] },
  AvgPool2d: { f: layer(new nn.AvgPool2d(2)), shape: [3, 6, 7] },
  AdaptiveAvgPool2d: { f: layer(new nn.AdaptiveAvgPool2d(1)), shape: [3, 6, 7] },
  AdaptiveMaxPool2d: { f: layer(new nn.AdaptiveMaxPool2d(2)), shape: [3, 6, 7] },
  MaxPool1d: { f: layer(new nn.MaxPool1d(2)), shape: [3, 7] },
  AvgPool1d: { f: layer(new nn.AvgPool1d(3, { padding: 1 })), shape: [3, 7] },
  AdaptiveAvgPool1d: { f: layer(new nn.AdaptiveAvgPool1d(2)), shape: [3, 7] },
  AdaptiveMaxPool1d: { f: layer(new nn.AdaptiveMaxPool1d(2)), shape: [3, 7] },
  conv3d: { f: (x) => conv3d(x, w5, { bias, padding: 1 }), shape: [3, 3, 4, 5] },
  convTranspose3d: { f: (x) => convTranspose3d(x, t5, { bias, stride: 2 }), shape: [3, 2, 3, 2] },
  Conv3d: { f: layer(new nn.Conv3d(3, 4, { kernelSize: 2 })), shape: [3, 3, 4, 5] },
  ConvTranspose3d: {
    f: layer(new nn.ConvTranspose3d(3, 4, { kernelSize: 2 })),
    shape: [3, 3, 4, 5],
  },
  MaxPool3d: { f: layer(new nn.MaxPool3d(2)), shape: [3, 4, 4, 5] },
  AvgPool3d: { f: layer(new nn.AvgPool3d(2, { padding: 1 })), shape: [3, 4, 4, 5] },
  AdaptiveAvgPool3d: { f: layer(new nn.AdaptiveAvgPool3d(2)), shape: [3, 4, 4, 5] },
  AdaptiveMaxPool3d: { f: layer(new nn.AdaptiveMaxPool3d(2)), shape: [3, 4, 4, 5] },
  InstanceNorm3d: { f: layer(new nn.InstanceNorm3d(3, { affine: true })), shape: [3, 2, 4, 5] },
  Unfold: { f: layer(new nn.Unfold(3, { padding: 1 })), shape: [3, 4, 5] },
  Fold: { f: layer(new nn.Fold([4, 5], [2, 3])), shape: [12, 9] },
  Softmax2d: { f: layer(new nn.Softmax2d()), shape: [3, 6, 7] },
  InstanceNorm1d: { f: layer(new nn.InstanceNorm1d(3, { affine: true })), shape: [3, 7] },
  InstanceNorm2d: { f: layer(new nn.InstanceNorm2d(3, { affine: true })), shape: [3, 6, 7] },
  PixelShuffle: { f: layer(new nn.PixelShuffle(2)), shape: [8, 3, 2] },
  PixelUnshuffle: { f: layer(new nn.PixelUnshuffle(2)), shape: [2, 4, 6] },
  ReflectionPad2d: { f: layer(new nn.ReflectionPad2d(1)), shape: [2, 4, 6] },
  CircularPad2d: { f: layer(new nn.CircularPad2d(1)), shape: [2, 4, 6] },
  LSTM: { f: (x) => Object.values(lstm.forward(x)), shape: [7, 3], at: 1, out: [1, 1, 1] },
  "LSTM with states": {
    f: (x) => Object.values(lstm.forward(x, { h0, c0 })),
    batched: (x) => Object.values(lstm.forward(x, { h0: h0.unsqueeze(1), c0: c0.unsqueeze(1) })),
    shape: [7, 3],
    at: 1,
    out: [1, 1, 1],
  },
  "GRU, batch first": { f: (x) => Object.values(gru.forward(x)), shape: [7, 3], out: [0, 1] },
  RNN: { f: (x) => Object.values(rnn.forward(x)), shape: [7, 3], at: 1, out: [1, 1] },
  LSTMCell: {
    f: (x) => Object.values(lstmCell.forward(x, { h, c })),
    batched: (x) => Object.values(lstmCell.forward(x, { h: h.unsqueeze(0), c: c.unsqueeze(0) })),
    shape: [3],
    out: [0, 0],
  },
  GRUCell: { f: layer(gruCell), shape: [3] },
  RNNCell: {
    f: (x) => rnnCell.forward(x, h),
    batched: (x) => rnnCell.forward(x, h.unsqueeze(0)),
    shape: [3],
  },
  MultiheadAttention: {
    f: (x) => Object.values(attention.attend(x, { isCausal: true, keyPaddingMask: undefined })),
    shape: [5, 8],
    at: 1,
    out: [1, 0],
  },
  "MultiheadAttention, padded": {
    f: (x) => Object.values(attention.attend(x, { keyPaddingMask: hidden })),
    batched: (x) => Object.values(attention.attend(x, { keyPaddingMask: hidden.unsqueeze(0) })),
    shape: [5, 8],
    at: 1,
    out: [1, 0],
  },
  "MultiheadAttention, batch first, a mask a head": {
    f: (x) => Object.values(first.attend(x, { key, value, attnMask: each })),
    batched: (x) =>
      Object.values(first.attend(x, {
        key: key.unsqueeze(0),
        value: value.unsqueeze(0),
        attnMask: each,
      })),
    shape: [5, 8],
    out: [0, 0],
  },
  TransformerEncoder: {
    f: (x) => encoder.forward(x, { keyPaddingMask: hidden, isCausal: true }),
    batched: (x) => encoder.forward(x, { keyPaddingMask: hidden.unsqueeze(0), isCausal: true }),
    shape: [5, 8],
    at: 1,
    out: [1],
  },
  TransformerDecoderLayer: {
    f: (x) => decoder.forward(x, memory, { isCausal: true }),
    batched: (x) => decoder.forward(x, memory.unsqueeze(0), { isCausal: true }),
    shape: [5, 8],
  },
};

for (const [name, { f, batched = f, shape, at = 0, out = [0] }] of Object.entries(CASES)) {
  Deno.test(`${name} takes one sample without a batch, with gradients`, async () => {
    const one = randn(shape).requiresGrad_();
    const batch = one.detach().clone().unsqueeze(at).requiresGrad_();
    const list = (y: Tensor | readonly Tensor[]) => [y].flat() as Tensor[];
    const [got, want] = [list(f(one)), list(batched(batch))];
    assertEquals(got.length, out.length);
    got.forEach((y, i) => assertEquals(y.shape, want[i]!.shape.filter((_, d) => d !== out[i])));
    for (const all of [got, want]) {
      all.map((y) => y.square().mul(0.5).add(y).sum()).reduce((a, b) => a.add(b)).backward();
    }
    assertEquals(one.grad!.shape, shape);
    const values = await readAll([...got, one.grad!, ...want, batch.grad!]);
    const half = values.length / 2;
    for (let i = 0; i < half; i++) assertEquals(values[i], values[half + i]);
    assert(values.slice(0, half).every((v) => [...v].some((e) => e !== 0)));
  });
}

Deno.test("linear() takes a weight of one dimension and a bias of none", async () => {
  const [x, w, b] = [
    randn([2, 3, 5]),
    randn([5]).requiresGrad_(),
    tensor(0.5, { requiresGrad: true }),
  ];
  const wide = w.detach().clone().unsqueeze(0).requiresGrad_();
  const row = tensor([0.5], { requiresGrad: true });
  const [y, want] = [
    linear(x, w, b, { activation: "tanh" }),
    linear(x, wide, row, { activation: "tanh" }),
  ];
  assertEquals(y.shape, [2, 3]);
  assertEquals(linear(x.select(0, 0).select(0, 0), w).shape, []);
  y.square().sum().backward();
  want.square().sum().backward();
  assertEquals(w.grad!.shape, [5]);
  assertEquals(b.grad!.shape, []);
  const [a, c, d, e, f, g] = await readAll([y, want, w.grad!, wide.grad!, b.grad!, row.grad!]);
  assertEquals([a, d, f], [c, e, g]);
  const all = randn([4, 5]);
  const [p, q] = await readAll([linear(x, all, b), linear(x, all, tensor([0.5, 0.5, 0.5, 0.5]))]);
  assertEquals(p, q);
  assertThrows(() => linear(x, randn([4])), TypeError, "the input's last size");
});

Deno.test("Dropout1d of [C, L] draws for each channel, and Dropout2d reads [N, C, L] as PyTorch does", async () => {
  for (
    const [drop, shape, own] of [
      [new nn.Dropout1d(0.5), [64, 5], 1],
      [new nn.Dropout2d(0.5), [8, 8, 5], 2],
    ] as const
  ) {
    const y = await drop.forward(ones(shape)).data() as Float32Array;
    const rows = shape.slice(0, own).reduce((a, b) => a * b, 1);
    const kept = Array.from({ length: rows }, (_, r) => y.slice(5 * r, 5 * r + 5));
    assert(kept.every((row) => row.every((v) => v === row[0] && (v === 0 || v === 2))));
    assert(new Set(kept.map((row) => row[0])).size === 2);
  }
  assertThrows(() => new nn.Dropout2d().forward(ones([3, 4])), TypeError, "3 or 4 dimensions");
});

Deno.test("what must have a batch says so, and so does what is given beside one sample", () => {
  const cases: [() => unknown, string][] = [
    [() => new nn.BatchNorm1d(3).forward(zeros([3])), "it must be [N, C] or [N, C, L]"],
    [() => new nn.BatchNorm2d(3).forward(zeros([3, 4, 4])), "it must be [N, C, H, W]"],
    [() => conv2d(zeros([4, 4]), w3), "they must be [N, C, H, W] or [C, H, W]"],
    [() => conv2d(zeros([1, 1, 2, 4, 4]), w3), "they must be [N, C, H, W] or [C, H, W]"],
    [() => maxPool2d(zeros([4, 4]), 2), "it must be [N, C, H, W] or [C, H, W]"],
    [() => lstm.forward(zeros([7, 4])), "it must be [T, N, 3] or [T, 3]"],
    [() => lstm.forward(zeros([7, 3]), { lengths: [7] }), "one sequence has no padding"],
    [() => lstm.forward(zeros([7, 3]), { h0: zeros([4, 1, 5]) }), "it must have 2 dimensions"],
    [() => lstmCell.forward(zeros([3]), { h: zeros([1, 5]) }), "it must have 1 dimension,"],
    [() => attention.forward(zeros([5, 8]), { key: zeros([6, 1, 8]) }), "they must be [L, E]"],
    [() => attention.forward(zeros([5, 1, 8]), { key: zeros([6, 8]) }), "they must be [L, N, E]"],
    [
      () => attention.forward(zeros([5, 8]), { keyPaddingMask: zeros([1, 5]).to("bool") }),
      "it must be [S]",
    ],
  ];
  for (const [call, message] of cases) assertThrows(call, TypeError, message);
});
