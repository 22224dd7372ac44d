/**
 * Layers and losses against PyTorch's: outputs, gradients and buffers after. `tests/torch_parity.py`
 * writes the numbers on a machine that has PyTorch; without its file the tests are skipped.
 */

import { assert, assertEquals } from "@std/assert";
import { init, nn, ones, readAll, scaledDotProductAttention, scope, Tensor } from "../mod.ts";
import { walkBack } from "../engine/autograd.ts";
import { assertClose } from "./helpers/close.ts";

const FILE = new URL("../.cache/torch_parity.safetensors", import.meta.url);

/** How a case is built and called; its tensors come from the file. */
interface Case {
  /** The module, with the options that the script's has. */
  readonly module?: () => nn.Module;
  /** The outputs, in PyTorch's order. Default: the module's forward. */
  readonly call?: (module: nn.Module, inputs: Tensor[]) => Tensor[];
}

type Recurrent = nn.LSTM | nn.GRU | nn.RNN;

function recurrent(lengths?: readonly number[]): Case["call"] {
  return (module, [x]) => {
    const { output, hn, cn } = (module as Recurrent).forward(x!, { lengths }) as nn.LSTMOutput;
    return cn ? [output, hn, cn] : [output, hn];
  };
}

function pooled(kernel: number, options: { stride: number; padding: number }) {
  return {
    max: () => new nn.MaxPool2d(kernel, options),
    avg: () => new nn.AvgPool2d(kernel, options),
  };
}

const POOLS = pooled(3, { stride: 2, padding: 1 });
const TWO = { numLayers: 2, bidirectional: true };

/** Weights of 5 classes; the file's replace them. */
function five(): Tensor {
  return ones([5]);
}

const CASES: Readonly<Record<string, Case>> = {
  linear: { module: () => new nn.Linear(5, 3) },
  conv1d: {
    module: () => new nn.Conv1d(4, 6, { kernelSize: 3, stride: 2, padding: 1, groups: 2 }),
  },
  conv2d: {
    module: () => new nn.Conv2d(4, 6, { kernelSize: 3, stride: 2, padding: 1, dilation: 2 }),
  },
  conv2d_depthwise: {
    module: () => new nn.Conv2d(4, 4, { kernelSize: 3, padding: 1, groups: 4 }),
  },
  conv_transpose2d: {
    module: () =>
      new nn.ConvTranspose2d(4, 3, { kernelSize: 3, stride: 2, padding: 1, outputPadding: 1 }),
  },
  batch_norm1d: { module: () => new nn.BatchNorm1d(5) },
  batch_norm2d: { module: () => new nn.BatchNorm2d(4) },
  batch_norm2d_eval: { module: () => new nn.BatchNorm2d(4).eval() },
  layer_norm: { module: () => new nn.LayerNorm([6]) },
  group_norm: { module: () => new nn.GroupNorm(2, 4) },
  embedding: { module: () => new nn.Embedding(7, 3, { paddingIdx: 2 }) },
  max_pool2d: { module: POOLS.max },
  avg_pool2d: { module: POOLS.avg },
  adaptive_avg_pool2d: { module: () => new nn.AdaptiveAvgPool2d(3) },
  gelu: { module: () => new nn.GELU() },
  gelu_tanh: { module: () => new nn.GELU({ approximate: "tanh" }) },
  silu: { module: () => new nn.SiLU() },
  mish: { module: () => new nn.Mish() },
  elu: { module: () => new nn.ELU() },
  selu: { module: () => new nn.SELU() },
  softplus: { module: () => new nn.Softplus() },
  softsign: { module: () => new nn.Softsign() },
  hardswish: { module: () => new nn.Hardswish() },
  hardsigmoid: { module: () => new nn.Hardsigmoid() },
  log_softmax: { module: () => new nn.LogSoftmax(1) },
  lstm: { module: () => new nn.LSTM(3, 4, TWO), call: recurrent() },
  lstm_batch_first: { module: () => new nn.LSTM(3, 4, { batchFirst: true }), call: recurrent() },
  lstm_lengths: { module: () => new nn.LSTM(3, 4, TWO), call: recurrent([3, 5, 1]) },
  gru: { module: () => new nn.GRU(3, 4, TWO), call: recurrent() },
  gru_lengths: {
    module: () => new nn.GRU(3, 4, { bidirectional: true }),
    call: recurrent([3, 5, 1]),
  },
  rnn: { module: () => new nn.RNN(3, 4, { bidirectional: true }), call: recurrent() },
  rnn_relu: { module: () => new nn.RNN(3, 4, { nonlinearity: "relu" }), call: recurrent() },
  lstm_cell: {
    module: () => new nn.LSTMCell(3, 4),
    call(module, [x, h, c]) {
      const state = (module as nn.LSTMCell).forward(x!, { h, c });
      return [state.h, state.c];
    },
  },
  gru_cell: { module: () => new nn.GRUCell(3, 4) },
  rnn_cell: { module: () => new nn.RNNCell(3, 4) },
  multihead_attention: {
    module: () => new nn.MultiheadAttention(8, 2, { batchFirst: true }),
    call: (module, [q, key, value]) => [
      (module as nn.MultiheadAttention).forward(q!, { key, value }),
    ],
  },
  attention: {
    call: (
      _,
      [q, key, value],
    ) => [scaledDotProductAttention({ query: q!, key: key!, value: value! })],
  },
  cross_entropy: { module: () => new nn.CrossEntropyLoss({ ignoreIndex: 1 }) },
  cross_entropy_weight: {
    module: () => new nn.CrossEntropyLoss({ weight: five(), labelSmoothing: 0.1, ignoreIndex: 1 }),
  },
  cross_entropy_places: { module: () => new nn.CrossEntropyLoss({ reduction: "sum" }) },
  cross_entropy_soft: { module: () => new nn.CrossEntropyLoss({ labelSmoothing: 0.1 }) },
  nll_loss: { module: () => new nn.NLLLoss({ weight: five() }) },
  mse_loss: { module: () => new nn.MSELoss() },
  l1_loss: { module: () => new nn.L1Loss({ reduction: "sum" }) },
  smooth_l1_loss: { module: () => new nn.SmoothL1Loss({ beta: 0.5 }) },
  huber_loss: { module: () => new nn.HuberLoss({ delta: 0.5 }) },
  bce_loss: { module: () => new nn.BCELoss() },
  bce_with_logits_loss: { module: () => new nn.BCEWithLogitsLoss({ posWeight: five() }) },
  kl_div_loss: { module: () => new nn.KLDivLoss({ reduction: "batchmean" }) },
};

/** Tensors of one case whose keys start with `prefix`, by the rest of the key. */
function under(tensors: Readonly<Record<string, Tensor>>, prefix: string): Record<string, Tensor> {
  const entries = Object.entries(tensors).filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(entries.map(([key, t]) => [key.slice(prefix.length), t]));
}

/** `in0`, `in1` … in order. */
function numbered(tensors: Readonly<Record<string, Tensor>>, prefix: string): Tensor[] {
  const found: Tensor[] = [];
  for (let i = 0; tensors[`${prefix}${i}`]; i++) found.push(tensors[`${prefix}${i}`]!);
  return found;
}

function forward(module: nn.Module, inputs: Tensor[]): Tensor[] {
  return [(module as unknown as { forward(...x: Tensor[]): Tensor }).forward(...inputs)];
}

/** Runs a case; gives pairs of ours and PyTorch's by name. */
function compare(
  name: string,
  file: Readonly<Record<string, Tensor>>,
): Map<string, { got: Tensor; want: Tensor }> {
  const { module: make, call = forward } = CASES[name]!;
  const given = under(file, `${name}/`);
  const module = make?.() ?? new nn.Identity();
  module.loadStateDict(under(given, "state/"));
  const inputs = numbered(given, "in").map((t, i) => given[`din${i}`] ? t.requiresGrad_() : t);
  const outputs = call(module, inputs);
  const wanted = numbered(given, "out");
  assertEquals(outputs.length, wanted.length, `${name}: number of outputs`);
  walkBack(
    outputs.map((t, i) => ({ edge: t.edge(), grad: given[`seed${i}`]!.device.alias() })),
    { retainGraph: false },
  );
  const pairs = new Map<string, { got: Tensor; want: Tensor }>();
  outputs.forEach((got, i) => pairs.set(`out${i}`, { got: got.detach(), want: wanted[i]! }));
  inputs.forEach((t, i) => {
    const want = given[`din${i}`];
    if (!want) return;
    assert(t.grad, `${name}: no gradient of input ${i}`);
    pairs.set(`din${i}`, { got: t.grad!.detach(), want });
  });
  for (const [key, want] of Object.entries(under(given, "dstate/"))) {
    const grad = module.namedParameters().find(([own]) => own === key)?.[1].grad;
    assert(grad, `${name}: no gradient of ${key}`);
    pairs.set(`dstate/${key}`, { got: grad!.detach(), want });
  }
  const buffers = Object.fromEntries(module.namedBuffers());
  for (const [key, want] of Object.entries(under(given, "after/"))) {
    assert(buffers[key], `${name}: no buffer ${key}`);
    pairs.set(`after/${key}`, { got: buffers[key]!.detach(), want });
  }
  return pairs;
}

async function present(): Promise<boolean> {
  try {
    return (await Deno.stat(FILE)).isFile;
  } catch {
    return false;
  }
}

const ready = await present();
if (!ready) {
  console.log(
    "torch parity: skipped, since python3 tests/torch_parity.py has not written its file",
  );
}

Deno.test({
  name: "layers and losses give PyTorch's outputs and gradients",
  ignore: !ready,
  async fn() {
    await init();
    const file = await nn.io.loadSafetensors(FILE);
    const names = new Set(Object.keys(file).map((key) => key.slice(0, key.indexOf("/"))));
    assertEquals([...names].filter((name) => !CASES[name]), [], "cases without a counterpart");
    assertEquals(Object.keys(CASES).filter((name) => !names.has(name)), [], "missing cases");
    for (const name of names) {
      const pairs = scope(() => compare(name, file));
      const entries = [...pairs];
      const values = await readAll(entries.flatMap(([, { got, want }]) => [got, want]));
      entries.forEach(([key, { got, want }], i) => {
        const what = `${name}/${key}`;
        assertEquals(got.shape, want.shape, what);
        const [ours, theirs] = [values[2 * i]!, values[2 * i + 1]!];
        // The chains have a few hundred roundings at most, of terms not far above the largest result.
        const largest = Math.max(0, ...Array.from(theirs, (v) => Math.abs(Number(v))));
        const atol = 256 * 2 ** -24 * Math.max(largest, 1e-3);
        assertClose(Array.from(ours, Number), Array.from(theirs, Number), { atol, what });
      });
    }
  },
});
