/**
 * Layers, losses and models against PyTorch's: outputs, gradients and buffers after.
 * `tests/torch_parity.py` writes the numbers on a machine that has PyTorch; without its file the tests
 * are skipped. Cases that its PyTorch lacks are named in the file's metadata.
 */

import { assert, assertEquals } from "@std/assert";
import {
  adaptiveMaxPool2d,
  affineGrid,
  capture,
  cat,
  crossEntropy,
  einsum,
  grad,
  gridSample,
  init,
  interpolate,
  nn,
  normalize,
  ones,
  pad,
  readAll,
  scaledDotProductAttention,
  scope,
  Tensor,
  tensor,
  zeros,
  zerosLike,
} from "../mod.ts";
import { decodeSafetensors } from "../nn/io/safetensors_format.ts";
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

const SMALL = { dimFeedforward: 16, dropout: 0 };
const PRE_NORM = { batchFirst: true, normFirst: true };

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
  relu: { module: () => new nn.ReLU() },
  leaky_relu: { module: () => new nn.LeakyReLU(0.2) },
  relu6: { module: () => new nn.ReLU6() },
  celu: { module: () => new nn.CELU(1.5) },
  hardtanh: { module: () => new nn.Hardtanh({ min: -1.5, max: 0.5 }) },
  log_sigmoid: { module: () => new nn.LogSigmoid() },
  sigmoid: { module: () => new nn.Sigmoid() },
  tanh: { module: () => new nn.Tanh() },
  softmax: { module: () => new nn.Softmax(1) },
  conv2d_groups: {
    module: () =>
      new nn.Conv2d(4, 6, {
        kernelSize: [3, 2],
        stride: [1, 2],
        padding: [2, 1],
        groups: 2,
        bias: false,
      }),
  },
  conv2d_pointwise: { module: () => new nn.Conv2d(4, 6, { kernelSize: 1 }) },
  conv_transpose2d_groups: {
    module: () =>
      new nn.ConvTranspose2d(4, 6, { kernelSize: 2, stride: 3, groups: 2, dilation: 2 }),
  },
  instance_norm1d: { module: () => new nn.InstanceNorm1d(4, { affine: true }) },
  instance_norm2d: { module: () => new nn.InstanceNorm2d(4, { affine: true }) },
  batch_norm2d_cumulative: { module: () => new nn.BatchNorm2d(4, { momentum: null }) },
  rms_norm: { module: () => new nn.RMSNorm([6], { eps: 1e-5 }) },
  max_pool2d_ceil: {
    module: () => new nn.MaxPool2d(2, { stride: 2, dilation: 2, ceilMode: true }),
  },
  avg_pool2d_ceil: {
    module: () =>
      new nn.AvgPool2d(3, { stride: 2, padding: 1, ceilMode: true, countIncludePad: false }),
  },
  adaptive_max_pool2d: { call: (_, [x]) => [adaptiveMaxPool2d(x!, [3, 2])] },
  interpolate: { call: (_, [x]) => [interpolate(x!, { size: [5, 11] })] },
  interpolate_corners: {
    call: (_, [x]) => [interpolate(x!, { size: [5, 11], alignCorners: true })],
  },
  interpolate_antialias: {
    call: (_, [x]) => [interpolate(x!, { size: [3, 4], antialias: true })],
  },
  interpolate_nearest: {
    call: (_, [x]) => [interpolate(x!, { size: [5, 11], mode: "nearest" })],
  },
  grid_sample: { call: (_, [x, grid]) => [gridSample(x!, grid!)] },
  grid_sample_border: {
    call: (_, [x, grid]) => [gridSample(x!, grid!, { padding: "border", alignCorners: true })],
  },
  affine_grid: { call: (_, [theta]) => [affineGrid(theta!, [2, 4, 3, 5])] },
  pad_reflect: { call: (_, [x]) => [pad(x!, [2, 1, 3, 2], { mode: "reflect" })] },
  pad_replicate: { call: (_, [x]) => [pad(x!, [2, 1, 3, 2], { mode: "replicate" })] },
  pad_circular: { call: (_, [x]) => [pad(x!, [2, 1, 3, 2], { mode: "circular" })] },
  normalize: { call: (_, [x]) => [normalize(x!, { dim: 1 })] },
  logsumexp: { call: (_, [x]) => [x!.logsumexp(1)] },
  variance: { call: (_, [x]) => [x!.variance(1)] },
  cumprod: { call: (_, [x]) => [x!.cumprod(1)] },
  prelu: { module: () => new nn.PReLU(4) },
  glu: { module: () => new nn.GLU(1) },
  softshrink: { module: () => new nn.Softshrink(0.7) },
  hardshrink: { module: () => new nn.Hardshrink(0.7) },
  tanhshrink: { module: () => new nn.Tanhshrink() },
  threshold: { module: () => new nn.Threshold(0.3, -2.5) },
  softmin: { module: () => new nn.Softmin(1) },
  unflatten: { module: () => new nn.Unflatten(1, [2, 2]) },
  upsample: { module: () => new nn.Upsample({ scaleFactor: 2 }) },
  upsample_bilinear: {
    module: () => new nn.Upsample({ scaleFactor: [1.7, 0.6], mode: "bilinear" }),
  },
  upsample_corners: {
    module: () => new nn.Upsample({ scaleFactor: 1.7, mode: "bilinear", alignCorners: true }),
  },
  upsample_nearest: { module: () => new nn.Upsample({ scaleFactor: [1.7, 0.6] }) },
  interpolate_factor_same: {
    call: (_, [x]) => [interpolate(x!, { scaleFactor: [1.1, 1.05] })],
  },
  interpolate_factor_antialias: {
    call: (_, [x]) => [interpolate(x!, { scaleFactor: 0.6, antialias: true })],
  },
  pixel_shuffle: { module: () => new nn.PixelShuffle(2) },
  pixel_unshuffle: { module: () => new nn.PixelUnshuffle(2) },
  zero_pad2d: { module: () => new nn.ZeroPad2d([1, 2, 3, -1]) },
  constant_pad2d: { module: () => new nn.ConstantPad2d(1, 2.5) },
  reflection_pad2d: { module: () => new nn.ReflectionPad2d([1, 2, 3, 0]) },
  replication_pad2d: { module: () => new nn.ReplicationPad2d([1, 2, 3, 0]) },
  circular_pad2d: { module: () => new nn.CircularPad2d([1, 2, 3, 0]) },
  max_pool1d: { module: () => new nn.MaxPool1d(3, { stride: 2, padding: 1, ceilMode: true }) },
  max_pool1d_dilation: { module: () => new nn.MaxPool1d(2, { dilation: 3 }) },
  avg_pool1d: {
    module: () => new nn.AvgPool1d(3, { stride: 2, padding: 1, countIncludePad: false }),
  },
  adaptive_avg_pool1d: { module: () => new nn.AdaptiveAvgPool1d(4) },
  adaptive_max_pool1d: { module: () => new nn.AdaptiveMaxPool1d(4) },
  softmax2d: { module: () => new nn.Softmax2d() },
  adaptive_max_pool2d_layer: { module: () => new nn.AdaptiveMaxPool2d([3, 2]) },
  conv_transpose1d: {
    module: () =>
      new nn.ConvTranspose1d(4, 6, {
        kernelSize: 3,
        stride: 2,
        padding: 1,
        outputPadding: 1,
        groups: 2,
        dilation: 2,
      }),
  },
  conv3d: {
    module: () =>
      new nn.Conv3d(4, 6, {
        kernelSize: [3, 2, 3],
        stride: [2, 1, 1],
        padding: [1, 0, 2],
        dilation: [1, 2, 1],
        groups: 2,
      }),
  },
  conv3d_same: { module: () => new nn.Conv3d(4, 3, { kernelSize: [2, 3, 4], padding: "same" }) },
  conv_transpose3d: {
    module: () =>
      new nn.ConvTranspose3d(4, 6, {
        kernelSize: [3, 2, 3],
        stride: [2, 1, 3],
        padding: [1, 0, 2],
        outputPadding: [1, 0, 2],
        dilation: [1, 2, 1],
        groups: 2,
      }),
  },
  batch_norm3d: { module: () => new nn.BatchNorm3d(4) },
  instance_norm3d: { module: () => new nn.InstanceNorm3d(4, { affine: true }) },
  max_pool3d: {
    module: () =>
      new nn.MaxPool3d([2, 3, 2], { stride: [1, 2, 2], padding: [1, 1, 0], ceilMode: true }),
  },
  max_pool3d_dilation: { module: () => new nn.MaxPool3d(2, { dilation: [3, 2, 1] }) },
  avg_pool3d: {
    module: () =>
      new nn.AvgPool3d(3, { stride: 2, padding: 1, ceilMode: true, countIncludePad: false }),
  },
  avg_pool3d_padding: {
    module: () => new nn.AvgPool3d([2, 3, 2], { padding: [1, 1, 0], ceilMode: true }),
  },
  adaptive_avg_pool3d: { module: () => new nn.AdaptiveAvgPool3d([2, 3, 4]) },
  adaptive_max_pool3d: { module: () => new nn.AdaptiveMaxPool3d([2, 3, 4]) },
  unfold: {
    module: () => new nn.Unfold([2, 3], { dilation: 2, padding: 1, stride: [2, 1] }),
  },
  fold: {
    module: () => new nn.Fold([5, 6], [2, 3], { padding: [1, 0], stride: [2, 1] }),
  },
  unfold_dim: { call: (_, [x]) => [x!.unfold(1, 3, 2)] },
  reflection_pad3d: { module: () => new nn.ReflectionPad3d([1, 2, 0, 1, 2, 1]) },
  replication_pad1d: { module: () => new nn.ReplicationPad1d([3, 1]) },
  upsample_volume: {
    module: () => new nn.Upsample({ scaleFactor: [1.7, 0.6, 1.2], mode: "trilinear" }),
  },
  upsample_volume_corners: {
    module: () => new nn.Upsample({ size: [3, 7, 2], mode: "trilinear", alignCorners: true }),
  },
  upsample_volume_nearest: { module: () => new nn.Upsample({ scaleFactor: 1.6 }) },
  upsample_row: { module: () => new nn.Upsample({ scaleFactor: 1.6, mode: "linear" }) },
  cosine_similarity: { module: () => new nn.CosineSimilarity() },
  pairwise_distance: { module: () => new nn.PairwiseDistance({ p: 3 }) },
  cosine_embedding_loss: { module: () => new nn.CosineEmbeddingLoss({ margin: 0.1 }) },
  triplet_margin_loss: { module: () => new nn.TripletMarginLoss({ margin: 0.5, swap: true }) },
  triplet_margin_loss_1: { module: () => new nn.TripletMarginLoss({ p: 1 }) },
  margin_ranking_loss: { module: () => new nn.MarginRankingLoss({ margin: 0.2 }) },
  gaussian_nll_loss: { module: () => new nn.GaussianNLLLoss({ full: true }) },
  poisson_nll_loss: { module: () => new nn.PoissonNLLLoss({ full: true, reduction: "sum" }) },
  poisson_nll_loss_rates: { module: () => new nn.PoissonNLLLoss({ logInput: false }) },
  transformer_encoder: {
    module: () => new nn.TransformerEncoder(new nn.TransformerEncoderLayer(8, 2, SMALL), 2),
  },
  transformer_encoder_first: {
    module: () =>
      new nn.TransformerEncoder(
        new nn.TransformerEncoderLayer(8, 2, { ...SMALL, ...PRE_NORM, activation: "gelu" }),
        2,
        new nn.LayerNorm([8]),
      ),
    call: (module, [x]) => [
      (module as nn.TransformerEncoder).forward(x!, {
        mask: ones([5, 5]).triu(1).to("bool"),
        keyPaddingMask: tensor([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], { dtype: "bool" }),
      }),
    ],
  },
  transformer_decoder: {
    module: () => new nn.TransformerDecoder(new nn.TransformerDecoderLayer(8, 2, SMALL), 2),
    call: (module, [x, memory]) => [
      (module as nn.TransformerDecoder).forward(x!, memory!, {
        isCausal: true,
        memoryKeyPaddingMask: tensor([[0, 0, 0, 1], [0, 0, 0, 0]], { dtype: "bool" }),
      }),
    ],
  },
  transformer_decoder_first: {
    module: () =>
      new nn.TransformerDecoder(
        new nn.TransformerDecoderLayer(8, 2, { ...SMALL, ...PRE_NORM, bias: false }),
        1,
        new nn.LayerNorm([8]),
      ),
  },
  einsum: { call: (_, [a, b]) => [einsum("bij,bkj->bik", a!, b!)] },
};

/** A model without dropout, its input's shape, and what of its output the script has. */
interface Model {
  readonly make: () => nn.Module;
  readonly input: readonly number[];
  readonly run?: (model: nn.Module, x: Tensor) => Tensor;
}

/** [2, 6] words as in the script. */
function words(): Tensor {
  const ids = Int32Array.from({ length: 12 }, (_, i) => (i * 7 + 3) % 50);
  return tensor(ids, { shape: [2, 6] });
}

const MODELS: Readonly<Record<string, Model>> = {
  conv_net: { make: () => nn.models.convNet({ dropout: 0 }), input: [4, 3, 32, 32] },
  toy_ssd: {
    make: () => nn.models.toySsd(),
    input: [2, 3, 64, 64],
    run(model, x) {
      const { classes, boxes } = (model as nn.models.ToySsd).forward(x);
      return cat([classes.flatten(1), boxes], 1);
    },
  },
  caption_decoder: {
    make: () =>
      nn.models.captioner({ vocabSize: 50, embedDim: 16, hiddenDim: 24, encoder: 18 }).decoder,
    input: [2, 16],
    run: (model, x) => (model as nn.models.CaptionDecoder).forward(x, words()),
  },
  alexnet: {
    make: () => nn.models.alexnet({ numClasses: 10, dropout: 0 }),
    input: [2, 3, 96, 96],
  },
  resnet18: { make: () => nn.models.resnet18({ numClasses: 10 }), input: [2, 3, 64, 64] },
  resnet34: { make: () => nn.models.resnet34({ numClasses: 10 }), input: [2, 3, 64, 64] },
  resnet50: { make: () => nn.models.resnet50({ numClasses: 10 }), input: [2, 3, 64, 64] },
  efficientnet_b0: {
    make: () => nn.models.efficientnetB0({ numClasses: 10 }),
    input: [2, 3, 64, 64],
  },
};

/** How an optimizer of the file is made, and the largest norm of its gradients. */
interface Walk {
  readonly make: (groups: { params: Tensor[]; lr: number }[]) => nn.optim.Optimizer;
  /** Learning rate of the first group; the second has half of it. */
  readonly lr: number;
  readonly norm?: number;
}

const { optim } = nn;

const OPTIMIZERS: Readonly<Record<string, Walk>> = {
  sgd: { lr: 0.1, make: (g) => new optim.SGD(g) },
  sgd_momentum: {
    lr: 0.1,
    make: (g) => new optim.SGD(g, { momentum: 0.9, dampening: 0.2, weightDecay: 0.05 }),
  },
  sgd_nesterov: {
    lr: 0.1,
    make: (g) => new optim.SGD(g, { momentum: 0.8, nesterov: true, weightDecay: 0.05 }),
  },
  sgd_clipped: { lr: 0.1, make: (g) => new optim.SGD(g, { momentum: 0.9 }), norm: 1.5 },
  adam: { lr: 0.02, make: (g) => new optim.Adam(g) },
  adam_amsgrad: {
    lr: 0.02,
    make: (g) =>
      new optim.Adam(g, { betas: [0.8, 0.95], eps: 1e-2, weightDecay: 0.1, amsgrad: true }),
  },
  adamw: { lr: 0.02, make: (g) => new optim.AdamW(g) },
  adamw_amsgrad: {
    lr: 0.02,
    make: (g) => new optim.AdamW(g, { weightDecay: 0.2, amsgrad: true }),
  },
  adagrad: { lr: 0.05, make: (g) => new optim.Adagrad(g) },
  adagrad_decay: {
    lr: 0.05,
    make: (g) =>
      new optim.Adagrad(g, {
        ...{ lrDecay: 0.1, weightDecay: 0.1, initialAccumulatorValue: 0.3, eps: 1e-2 },
      }),
  },
  rmsprop: { lr: 0.02, make: (g) => new optim.RMSprop(g) },
  rmsprop_centered: {
    lr: 0.02,
    make: (g) =>
      new optim.RMSprop(g, {
        ...{ alpha: 0.9, eps: 1e-2, weightDecay: 0.1, momentum: 0.9, centered: true },
      }),
  },
};

const EPOCHS = 40;

type Scheduler = nn.optim.LRScheduler | nn.optim.SequentialLR | nn.optim.ReduceLROnPlateau;

const SCHEDULES: Readonly<Record<string, (o: nn.optim.SGD) => Scheduler>> = {
  step: (o) => new optim.StepLR(o, { stepSize: 7, gamma: 0.5 }),
  multi_step: (o) => new optim.MultiStepLR(o, { milestones: [3, 11, 11, 30], gamma: 0.4 }),
  exponential: (o) => new optim.ExponentialLR(o, { gamma: 0.9 }),
  cosine: (o) => new optim.CosineAnnealingLR(o, { tMax: 13, etaMin: 1e-3 }),
  linear: (o) => new optim.LinearLR(o, { startFactor: 0.2, endFactor: 0.7, totalIters: 12 }),
  constant: (o) => new optim.ConstantLR(o, { factor: 0.3, totalIters: 9 }),
  polynomial: (o) => new optim.PolynomialLR(o, { totalIters: 17, power: 1.7 }),
  warm_restarts: (o) => new optim.CosineAnnealingWarmRestarts(o, { t0: 7, etaMin: 1e-3 }),
  warm_restarts_longer: (o) => new optim.CosineAnnealingWarmRestarts(o, { t0: 3, tMult: 2 }),
  lambda: (o) => new optim.LambdaLR(o, { lrLambda: [(e) => 0.95 ** e, (e) => 1 / (1 + e)] }),
  one_cycle: (o) => new optim.OneCycleLR(o, { maxLr: [1, 0.5], totalSteps: EPOCHS + 1 }),
  one_cycle_phases: (o) =>
    new optim.OneCycleLR(o, {
      ...{ maxLr: 0.8, totalSteps: EPOCHS + 1, pctStart: 0.4, annealStrategy: "linear" },
      ...{ baseMomentum: 0.7, maxMomentum: 0.99, divFactor: 10, finalDivFactor: 100 },
      threePhase: true,
    }),
  sequential: (o) =>
    new optim.SequentialLR(o, {
      schedulers: [
        new optim.LinearLR(o, { startFactor: 0.1, totalIters: 5 }),
        new optim.CosineAnnealingLR(o, { tMax: 20 }),
        new optim.ExponentialLR(o, { gamma: 0.8 }),
      ],
      milestones: [5, 25],
    }),
  plateau: (o) =>
    new optim.ReduceLROnPlateau(o, {
      ...{ factor: 0.5, patience: 2, threshold: 0.05, cooldown: 1, minLr: [0.02, 1e-4] },
    }),
  plateau_max: (o) =>
    new optim.ReduceLROnPlateau(o, {
      ...{ mode: "max", factor: 0.3, patience: 1, threshold: 0.1, thresholdMode: "abs" },
    }),
};

/** The script's `run_optimizer`: parameters after some steps, by the rest of their keys. */
function runOptimizer({ make, lr, norm }: Walk): Record<string, Tensor> {
  const params = [[5, 7], [11]].map((shape, i) =>
    tensor(pattern(shape.reduce((a, b) => a * b), 900 + i), { shape, requiresGrad: true })
  );
  using optimizer = make(params.map((p, i) => ({ params: [p], lr: i === 0 ? lr : lr / 2 })));
  const found: Record<string, Tensor> = {};
  for (let step = 1; step <= 12; step++) {
    params.forEach((p, i) => {
      const values = () => tensor(pattern(p.size, 900 + 10 * step + i), { shape: [...p.shape] });
      p.grad = step === 5 && i === 1 ? null : values();
    });
    if (norm !== undefined) optim.clipGradNorm(params, { maxNorm: norm });
    optimizer.step();
    if ([1, 5, 12].includes(step)) {
      params.forEach((p, i) => found[`${step}/p${i}`] = p.detach().clone());
    }
  }
  return found;
}

/** The script's `run_schedule`. */
function runSchedule(make: (o: nn.optim.SGD) => Scheduler): number[] {
  const groups = [0.1, 0.04].map((lr) => ({ params: [zeros([1], { requiresGrad: true })], lr }));
  using optimizer = new optim.SGD(groups, { momentum: 0.9 });
  const scheduler = make(optimizer);
  const rows: number[] = [];
  for (const metric of pattern(EPOCHS, 990)) {
    rows.push(...optimizer.paramGroups.map((group) => group.lr));
    if (scheduler instanceof optim.OneCycleLR) {
      rows.push(...optimizer.paramGroups.map((group) => group.momentum));
    }
    optimizer.step();
    scheduler.step(metric);
  }
  return rows;
}

/** The script's `pattern`: even numbers in [-1, 1), each element's from its own number. */
function pattern(size: number, seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: size }, (_, i) => {
    let x = (i + seed * 1000003 + 1) >>> 0;
    x = Math.imul(x, 2654435761) >>> 0;
    x = (x ^ (x >>> 15)) >>> 0;
    x = Math.imul(x, 2246822519) >>> 0;
    return ((x ^ (x >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

/** The script's `fill`. */
function filled(model: nn.Module): Record<string, Tensor> {
  const state = model.stateDict();
  Object.keys(state).sort().forEach((name, seed) => {
    const { shape, dtype, size } = state[name]!;
    if (dtype !== "f32") return;
    const scale = Math.fround(Math.sqrt(6 / (size / shape[0]!)));
    const about1 = name.endsWith("weight") || name.endsWith("var");
    const norm = name.endsWith("bias") && state[name.slice(0, -4) + "weight"]?.ndim === 1;
    const offset = about1 ? 1 : norm ? 3 : 0;
    const value = (v: number) => shape.length > 1 ? v * scale : v / (about1 ? 4 : 8) + offset;
    state[name] = tensor(pattern(size, seed).map(value), { shape });
  });
  return state;
}

/** Ours of every tensor that the file has of a model, by the rest of its key. */
function runModel({ make, input, run }: Model): Record<string, Tensor> {
  const model = make();
  model.loadStateDict(filled(model));
  const of = (shape: readonly number[], seed: number) =>
    tensor(pattern(shape.reduce((a, b) => a * b), seed), { shape });
  const x = of(input, 999);
  const out = run ? run(model, x) : forward(model, [x])[0]!;
  out.backward(of(out.shape, 998));
  return {
    out: out.detach(),
    ...Object.fromEntries(model.namedParameters().map(([key, p]) => [`d${key}`, p.grad!.detach()])),
    ...Object.fromEntries(model.namedBuffers().map(([key, t]) => [`after${key}`, t.detach()])),
  };
}

/** The script's `spread`. */
function spread(values: ArrayLike<number | bigint>): number[] {
  const step = Math.max(1, Math.ceil(values.length / 256));
  return Array.from(
    { length: Math.ceil(values.length / step) },
    (_, i) => Number(values[i * step]),
  );
}

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
  const parameters = new Map(module.namedParameters());
  const leaves = new Map<string, Tensor>();
  inputs.forEach((t, i) => given[`din${i}`] && leaves.set(`din${i}`, t));
  for (const key of Object.keys(under(given, "dstate/")).sort()) {
    assert(parameters.has(key), `${name}: no parameter ${key}`);
    leaves.set(`dstate/${key}`, parameters.get(key)!);
  }
  const twice = under(given, "twice/");
  const gradOutputs = outputs.map((_, i) => given[`seed${i}`]!);
  const pairs = new Map<string, { got: Tensor; want: Tensor }>();
  const expect = (key: string, got: Tensor | null | undefined, want: Tensor) => {
    assert(got, `${name}: no ${key}`);
    pairs.set(key, { got: got!.detach(), want });
  };
  outputs.forEach((got, i) => expect(`out${i}`, got, wanted[i]!));
  const keys = [...leaves.keys()];
  grad(outputs, [...leaves.values()], { gradOutputs, retainGraph: true })
    .forEach((got, i) => expect(keys[i]!, got, given[keys[i]!]!));
  if (twice.sum) {
    const first = grad(outputs, [...leaves.values()], { gradOutputs, createGraph: true });
    const weighted = first
      .map((g, i) => g!.mul(tensor(pattern(g!.size, 500 + i), { shape: g!.shape })).sum())
      .reduce((a, b) => a.add(b));
    expect("twice/sum", weighted, twice.sum);
    const second = weighted.requiresGrad
      ? grad(weighted, [...leaves.values()], { allowUnused: true })
      : [];
    keys.forEach((key, i) => {
      const want = twice[key];
      if (!want) return;
      // PyTorch has zeros where a gradient cannot change.
      using zeros = zerosLike(leaves.get(key)!);
      expect(`twice/${key}`, second[i] ?? zeros, want);
    });
  }
  const buffers = Object.fromEntries(module.namedBuffers());
  for (const [key, want] of Object.entries(under(given, "after/"))) {
    assert(buffers[key], `${name}: no buffer ${key}`);
    pairs.set(`after/${key}`, { got: buffers[key]!.detach(), want });
  }
  return pairs;
}

/** What the script has written about its file: `undefined` where there is none. */
async function about(): Promise<{ absent: string[]; torch: string } | undefined> {
  let bytes;
  try {
    bytes = await Deno.readFile(FILE);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const { metadata } = decodeSafetensors(bytes);
  return { absent: metadata.absent!.split(",").filter(Boolean), torch: metadata.torch! };
}

const made = await about();
if (!made) {
  console.log(
    "torch parity: skipped, since python3 tests/torch_parity.py has not written its file",
  );
}

/** The file's tensors. */
async function read() {
  await init();
  return await nn.io.loadSafetensors(FILE);
}

Deno.test({
  name: "layers and losses give PyTorch's outputs and gradients",
  ignore: !made,
  async fn() {
    const { absent, torch } = made!;
    const file = await read();
    if (absent.length > 0) console.log(`PyTorch ${torch} left out ${absent.join(", ")}`);
    const names = new Set(Object.keys(file).map((key) => key.slice(0, key.indexOf("/"))));
    for (const other of ["model", "optim", "schedule", "training"]) names.delete(other);
    assertEquals([...names].filter((name) => !CASES[name]), [], "cases without a counterpart");
    const missing = Object.keys(CASES).filter((name) => !names.has(name));
    assertEquals(missing.filter((name) => !absent.includes(name)), [], "missing cases");
    for (const name of names) {
      const pairs = scope(() => compare(name, file));
      const entries = [...pairs];
      const values = await readAll(entries.flatMap(([, { got, want }]) => [got, want]));
      const size = (i: number) =>
        Math.max(0, ...Array.from(values[2 * i + 1]!, (v) => Math.abs(+v)));
      // The sum of all gradients, of both signs, is as far off as they are.
      const gradients = entries.map(([key], i) => /^(din|dstate)/.test(key) ? size(i) : 0);
      entries.forEach(([key, { got, want }], i) => {
        const what = `${name}/${key}`;
        assertEquals(got.shape, want.shape, what);
        const [ours, theirs] = [values[2 * i]!, values[2 * i + 1]!];
        // The chains have a few hundred roundings at most, of terms not far above the largest result.
        const largest = Math.max(size(i), ...(key === "twice/sum" ? gradients : []));
        const atol = 256 * 2 ** -24 * Math.max(largest, 1e-3);
        assertClose(Array.from(ours, Number), Array.from(theirs, Number), { atol, what });
      });
    }
  },
});

/** Those of our tensors that are further from PyTorch's than its own rounding explains. */
async function farFrom(
  wanted: Readonly<Record<string, Tensor>>,
  ours: Readonly<Record<string, Tensor>>,
): Promise<string[]> {
  const keys = Object.keys(ours);
  const theirs = Object.keys(wanted).filter((key) => !key.startsWith("noise/"));
  assertEquals(keys.toSorted(), theirs.toSorted(), "tensors");
  const got = await readAll(keys.map((key) => ours[key]!));
  const want = await readAll(keys.map((key) => wanted[key]!));
  const noise = await readAll(keys.map((key) => wanted[`noise/${key}`] ?? zeros([])));
  return keys.flatMap((key, i) => {
    const [a, b] = [spread(got[i]!), spread(want[i]!)];
    const rms = (values: number[]) => Math.hypot(...values) / Math.sqrt(values.length);
    const error = rms(a.map((v, at) => v - b[at]!));
    // Both round in float32, in another order: the errors are of one size, whatever the net does
    // to them. Some are lucky: no tensor is better than a few roundings of its own size.
    const limit = 8 * Number(noise[i]![0]) + 8 * 2 ** -24 * rms(b);
    return error <= limit ? [] : [`${key}: ${error}, at most ${limit}`];
  });
}

for (const [name, model] of Object.entries(MODELS)) {
  Deno.test({
    name: `model ${name} gives PyTorch's output, gradients and statistics`,
    // Not in every installation of PyTorch.
    ignore: !made || made.absent.includes(name),
    async fn() {
      const file = await read();
      const ours = scope(() => runModel(model));
      assertEquals(await farFrom(under(file, `model/${name}/`), ours), [], name);
    },
  });
}

/** Names in the second place of the keys under the first. */
function second(file: Readonly<Record<string, Tensor>>, first: string): string[] {
  return [...new Set(Object.keys(under(file, `${first}/`)).map((key) => key.split("/")[0]!))];
}

Deno.test({
  name: "optimizers walk as PyTorch's",
  ignore: !made,
  async fn() {
    const file = await read();
    assertEquals(second(file, "optim").toSorted(), Object.keys(OPTIMIZERS).toSorted());
    for (const [name, walk] of Object.entries(OPTIMIZERS)) {
      const ours = scope(() => runOptimizer(walk));
      assertEquals(await farFrom(under(file, `optim/${name}/`), ours), [], name);
    }
  },
});

/** The script's `run_training`, one step after the other. */
function training(): { step: () => Tensor; count: number } {
  const net = nn.models.convNet({ dropout: 0 });
  net.loadStateDict(filled(net));
  const x = tensor(pattern(8 * 3 * 32 * 32, 700), { shape: [8, 3, 32, 32] });
  const target = tensor(Array.from({ length: 8 }, (_, i) => i * 61 % 512), { dtype: "i32" });
  const optimizer = new optim.AdamW(net.parameters(), { lr: 1e-3, weightDecay: 0.05 });
  const count = 16;
  const scheduler = new optim.OneCycleLR(optimizer, { maxLr: 2e-3, totalSteps: count + 1 });
  const run = capture((x: Tensor) => {
    const loss = crossEntropy(net.forward(x), target, { labelSmoothing: 0.1 });
    optimizer.zeroGrad();
    loss.backward();
    optim.clipGradNorm(net.parameters(), { maxNorm: 1 });
    optimizer.step();
    return loss;
  });
  const step = () => {
    const loss = run(x);
    scheduler.step();
    return loss;
  };
  return { step, count };
}

Deno.test({
  name: "a captured training has PyTorch's losses, step by step",
  ignore: !made,
  async fn() {
    const file = await read();
    const want = await file["training/losses"]!.data();
    const noise = await file["training/noise"]!.data();
    const { step, count } = training();
    const got = await readAll(Array.from({ length: count }, step));
    assertEquals(got.length, want.length);
    assert(want[count - 1]! < want[0]! / 4, "PyTorch's own net learns");
    got.forEach((loss, i) => {
      const limit = 8 * Number(noise[i]) + 8 * 2 ** -24 * Number(want[i]);
      const error = Math.abs(Number(loss[0]) - Number(want[i]));
      assert(error <= limit, `step ${i}: ${loss[0]}, PyTorch ${want[i]}, at most ${limit} apart`);
    });
  },
});

Deno.test({
  name: "learning rates are PyTorch's, epoch by epoch",
  ignore: !made,
  async fn() {
    const file = await read();
    assertEquals(second(file, "schedule").toSorted(), Object.keys(SCHEDULES).toSorted());
    for (const [name, make] of Object.entries(SCHEDULES)) {
      const want = Array.from(await file[`schedule/${name}`]!.data(), Number);
      // Rounded to f32 in the file; both sides compute in f64.
      const got = runSchedule(make).map(Math.fround);
      assertClose(got, want, { rtol: 2 ** -23, atol: 1e-12, what: name });
    }
  },
});
