/** Calls of nn as in PyTorch, or with what is no tensor or module: each must say what would be right. */

import { assertEquals, assertRejects } from "@std/assert";
import { init, nn, ones, randn, type Tensor, tensor, zeros } from "../../mod.ts";
import { any, checkAllOptions, checkErrors } from "../helpers/wrong_calls.ts";

await init();

const { DataLoader } = nn.data;
const { optim } = nn;
const linear = new nn.Linear(3, 2);
const sgd = () => new optim.SGD(linear.parameters());
const numbers = { length: 4, get: (i: number) => i };

/** A model with a property that is not seen for what it is. */
class Holder extends nn.Module {
  constructor(readonly held: unknown) {
    super();
  }
  override forward(x: Tensor): Tensor {
    return x;
  }
}

Deno.test("every layer asks for its options by name", () => {
  checkAllOptions({
    GELU: (o) => new nn.GELU(o),
    Softplus: (o) => new nn.Softplus(o),
    Hardtanh: (o) => new nn.Hardtanh(o),
    PReLU: (o) => new nn.PReLU(1, o),
    Flatten: (o) => new nn.Flatten(o),
    Upsample: (o) => new nn.Upsample(o),
    Linear: (o) => new nn.Linear(2, 2, o),
    Embedding: (o) => new nn.Embedding(2, 2, o),
    MultiheadAttention: (o) => new nn.MultiheadAttention(4, 2, o),
    attend: (o) => new nn.MultiheadAttention(4, 2).forward(zeros([2, 1, 4]), o),
    TransformerEncoderLayer: (o) => new nn.TransformerEncoderLayer(4, 2, o),
    encode: (o) => new nn.TransformerEncoderLayer(4, 2).forward(zeros([2, 1, 4]), o),
    decode: (o) => {
      new nn.TransformerDecoderLayer(4, 2).forward(zeros([2, 1, 4]), zeros([2, 1, 4]), o);
    },
    BatchNorm1d: (o) => new nn.BatchNorm1d(2, o),
    BatchNorm2d: (o) => new nn.BatchNorm2d(2, o),
    SplitBatchNorm2d: (o) => new nn.SplitBatchNorm2d(2, o),
    LayerNorm: (o) => new nn.LayerNorm(2, o),
    GroupNorm: (o) => new nn.GroupNorm(1, 2, o),
    InstanceNorm1d: (o) => new nn.InstanceNorm1d(2, o),
    InstanceNorm2d: (o) => new nn.InstanceNorm2d(2, o),
    BatchNorm3d: (o) => new nn.BatchNorm3d(2, o),
    InstanceNorm3d: (o) => new nn.InstanceNorm3d(2, o),
    Conv3d: (o) => new nn.Conv3d(2, 2, o),
    ConvTranspose3d: (o) => new nn.ConvTranspose3d(2, 2, o),
    MaxPool3d: (o) => new nn.MaxPool3d(2, o),
    AvgPool3d: (o) => new nn.AvgPool3d(2, o),
    Unfold: (o) => new nn.Unfold(2, o),
    Fold: (o) => new nn.Fold(4, 2, o),
    RMSNorm: (o) => new nn.RMSNorm(2, o),
    LSTM: (o) => new nn.LSTM(2, 2, o),
    "LSTM forward": (o) => new nn.LSTM(2, 2).forward(zeros([1, 1, 2]), o),
    "GRU forward": (o) => new nn.GRU(2, 2).forward(zeros([1, 1, 2]), o),
    "LSTMCell forward": (o) => new nn.LSTMCell(2, 2).forward(zeros([1, 2]), o),
    LSTMCell: (o) => new nn.LSTMCell(2, 2, o),
    GRUCell: (o) => new nn.GRUCell(2, 2, o),
    MSELoss: (o) => new nn.MSELoss(o),
    L1Loss: (o) => new nn.L1Loss(o),
    SmoothL1Loss: (o) => new nn.SmoothL1Loss(o),
    HuberLoss: (o) => new nn.HuberLoss(o),
    CrossEntropyLoss: (o) => new nn.CrossEntropyLoss(o),
    NLLLoss: (o) => new nn.NLLLoss(o),
    BCELoss: (o) => new nn.BCELoss(o),
    BCEWithLogitsLoss: (o) => new nn.BCEWithLogitsLoss(o),
    KLDivLoss: (o) => new nn.KLDivLoss(o),
    FocalLoss: (o) => new nn.FocalLoss(o),
    FocalCosineLoss: (o) => new nn.FocalCosineLoss(o),
    SoftCrossEntropyLoss: (o) => new nn.SoftCrossEntropyLoss(o),
    BiTemperedLogisticLoss: (o) => new nn.BiTemperedLogisticLoss(o),
    CosineSimilarity: (o) => new nn.CosineSimilarity(o),
    TripletMarginLoss: (o) => new nn.TripletMarginLoss(o),
    PoissonNLLLoss: (o) => new nn.PoissonNLLLoss(o),
    Parameter: (o) => new nn.Parameter(zeros([2]), o),
    registerBuffer: (o) => new nn.Identity().registerBuffer("mean", zeros([2]), o),
    loadStateDict: (o) => linear.loadStateDict(linear.stateDict(), o),
    summary: (o) => linear.summary([3], o),
    resnet18: (o) => nn.models.resnet18(o),
    convNet: (o) => nn.models.convNet(o),
  });
});

Deno.test("optimizers, loaders and transforms ask for their options by name", () => {
  const images = zeros([1, 1, 4, 4]);
  checkAllOptions({
    SGD: (o) => new optim.SGD(linear.parameters(), o),
    Adam: (o) => new optim.Adam(linear.parameters(), o),
    AdamW: (o) => new optim.AdamW(linear.parameters(), o),
    RMSprop: (o) => new optim.RMSprop(linear.parameters(), o),
    Adagrad: (o) => new optim.Adagrad(linear.parameters(), o),
    StepLR: (o) => new optim.StepLR(sgd(), o),
    MultiStepLR: (o) => new optim.MultiStepLR(sgd(), o),
    ExponentialLR: (o) => new optim.ExponentialLR(sgd(), o),
    CosineAnnealingLR: (o) => new optim.CosineAnnealingLR(sgd(), o),
    CosineAnnealingWarmRestarts: (o) => new optim.CosineAnnealingWarmRestarts(sgd(), o),
    LinearLR: (o) => new optim.LinearLR(sgd(), o),
    ConstantLR: (o) => new optim.ConstantLR(sgd(), o),
    PolynomialLR: (o) => new optim.PolynomialLR(sgd(), o),
    LambdaLR: (o) => new optim.LambdaLR(sgd(), o),
    OneCycleLR: (o) => new optim.OneCycleLR(sgd(), o),
    SequentialLR: (o) => new optim.SequentialLR(sgd(), o),
    ReduceLROnPlateau: (o) => new optim.ReduceLROnPlateau(sgd(), o),
    EarlyStopping: (o) => new optim.EarlyStopping(o),
    GradScaler: (o) => new optim.GradScaler(o),
    EMA: (o) => new optim.EMA(o),
    DataLoader: (o) => new DataLoader(numbers, o),
    randomSplit: (o) => nn.data.randomSplit(numbers, [2, 2], o),
    WeightedSampler: (o) => new nn.data.WeightedSampler([1, 1], o),
    ClassSampler: (o) => new nn.data.ClassSampler([1, 1], o),
    normal: (o) => nn.init.normal(zeros([2]), o),
    uniform: (o) => nn.init.uniform(zeros([2]), o),
    xavierUniform: (o) => nn.init.xavierUniform(zeros([2, 2]), o),
    kaimingNormal: (o) => nn.init.kaimingNormal(zeros([2, 2]), o),
    accuracy: (o) => nn.metrics.accuracy(zeros([1, 2]), tensor([0], { dtype: "i32" }), o),
    normalize: (o) => nn.vision.normalize(images, o),
    randomHorizontalFlip: (o) => nn.vision.randomHorizontalFlip(images, o),
    randomRotation: (o) => nn.vision.randomRotation(images, o),
    colorJitter: (o) => nn.vision.colorJitter(images, o),
    gaussianBlur: (o) => nn.vision.gaussianBlur(images, o),
    mixup: (o) => nn.vision.mixup(images, zeros([1, 2]), o),
  });
});

Deno.test("options of other names are refused where all names are known", () => {
  const names = "it takes lr, momentum, dampening, weightDecay and nesterov";
  const params = linear.parameters();
  checkErrors(TypeError, [
    [
      () => new optim.SGD(params, any({ weight_decay: 1 })),
      "Cannot make SGD with weight_decay: it is weightDecay",
    ],
    [
      () => new optim.SGD(params, any({ learningRate: 1 })),
      `Cannot make SGD with learningRate: ${names}`,
    ],
    [
      () => new optim.AdamW(params, any({ momentum: 1 })),
      "Cannot make AdamW with momentum: it takes lr, betas, eps, weightDecay and amsgrad",
    ],
    [
      () => new optim.SGD([{ params, ...any({ wd: 1 }) }]),
      "Cannot add parameters to SGD with wd: it takes params, initialLr, lr, momentum, dampening, " +
      "weightDecay and nesterov",
    ],
    [
      () => new optim.CosineAnnealingLR(sgd(), any({ T_max: 5 })),
      "Cannot make CosineAnnealingLR with T_max: it is tMax",
    ],
    [
      () => new DataLoader(numbers, any({ numWorkers: 1 })),
      "Cannot make DataLoader with numWorkers: it takes batchSize, shuffle, dropLast, seed, collate, " +
      "sampler, workers, prefetch and persistentWorkers",
    ],
    [
      () => new nn.GRU(2, 2).forward(zeros([1, 1, 2]), any({ c0: zeros([1, 1, 2]) })),
      "Cannot apply GRU with c0: it takes h0 and lengths",
    ],
    [
      () => new nn.LSTM(2, 2).forward(zeros([1, 1, 2]), any([zeros([1]), zeros([1])])),
      "Cannot apply LSTM with options [a tensor [1], a tensor [1]]: write lstm.forward(x, { h0, c0 })",
    ],
    [
      () => new nn.GRUCell(2, 2).forward(zeros([1, 2]), any({ h: zeros([1, 2]) })),
      "Cannot apply GRUCell with an object with h: it must be a tensor",
    ],
  ]);
});

Deno.test("containers take modules", () => {
  const layers = "it takes modules, as in new nn.Sequential(...layers)";
  const list = "it takes modules, as in new nn.ModuleList([a, b])";
  const dict = "it takes modules, as in new nn.ModuleDict({ a: layer })";
  checkErrors(TypeError, [
    [
      () => new nn.Sequential(any((x: Tensor) => x.mul(5))),
      `Cannot make Sequential with a function: ${layers}`,
    ],
    [
      () => new nn.Sequential(any({ a: linear })),
      `Cannot make Sequential with an object with a: ${layers}`,
    ],
    [
      () => new nn.Sequential(any([linear, linear])),
      `Cannot make Sequential with [a Linear, a Linear]: ${layers}`,
    ],
    [() => new nn.ModuleList([linear, any(3)]), `Cannot make ModuleList with 3: ${list}`],
    [
      () => new nn.ModuleList(any(linear)),
      "Cannot make ModuleList with a Linear: write new nn.ModuleList([a, b])",
    ],
    [
      () => new nn.ModuleList().append(any([linear])),
      `Cannot add to a ModuleList with [a Linear]: ${list}`,
    ],
    [
      () => new nn.ModuleDict(any(new Map([["a", linear]]))),
      "Cannot make ModuleDict with a Map: write new nn.ModuleDict({ a: layer })",
    ],
    [
      () => new nn.ModuleDict({ a: any([linear]) }),
      `Cannot put into a ModuleDict with [a Linear]: ${dict}`,
    ],
  ]);
  assertEquals(new nn.ModuleDict({ low_rank: linear }).keys(), ["low_rank"]);
  assertEquals(new nn.ModuleList(new nn.Sequential(linear)).length, 1);
});

Deno.test("modules and parameters are not held where they are not seen", () => {
  const parts = (kind: string, into = "ModuleDict") =>
    `Cannot register the ${kind} Holder.held: put modules into a ${into}, and parameters into properties`;
  const list = "ModuleList or Sequential";
  const held = (value: unknown) => () => new Holder(value).parameters();
  checkErrors(TypeError, [
    [held([1, linear]), parts("array", list)],
    [held([[linear]]), parts("array", list)],
    [held({ a: linear }), parts("object")],
    [held({ a: { b: linear.weight } }), parts("object")],
    [held(new Map([["a", linear]])), parts("Map")],
    [held(new Set([linear])), parts("Set", list)],
  ]);
  for (
    const value of [{ a: 1, b: { c: [2] } }, [[1]], new Map([[1, 2]]), { x: zeros([1]) }, null]
  ) {
    assertEquals(held(value)(), []);
  }
  class Own {
    linear = linear;
  }
  assertEquals(held(new Own())(), []);
});

Deno.test("optimizers take parameters, schedulers come one after the other", () => {
  const right = "write new SGD(model.parameters(), { lr: 0.1 })";
  const tensors = "it must be a tensor, as model.parameters() gives them";
  const group = "write optimizer.addParamGroup({ params: model.parameters() })";
  const nested = () => {
    const optimizer = sgd();
    const make = () => new optim.LinearLR(optimizer);
    const inner = new optim.SequentialLR(optimizer, {
      schedulers: [make(), make()],
      milestones: [2],
    });
    return new optim.SequentialLR(optimizer, { schedulers: [any(inner), make()], milestones: [5] });
  };
  checkErrors(TypeError, [
    [() => new optim.SGD(any(linear)), `Cannot make SGD from a Linear: ${right}`],
    [() => new optim.SGD(any()), `Cannot make SGD from undefined: ${right}`],
    [
      () => new optim.SGD(any(new nn.Sequential(linear))),
      `Cannot optimize a Linear: ${tensors}`,
    ],
    [
      () => new optim.SGD(any(linear.namedParameters())),
      `Cannot optimize ["weight", a tensor [2, 3]]: ${tensors}`,
    ],
    [
      () => new optim.SGD([{ params: any(linear) }]),
      `Cannot add parameters to SGD from a Linear: ${group}`,
    ],
    [
      nested,
      "Cannot run a SequentialLR in a sequence: it takes schedulers by epoch; those of another " +
      "SequentialLR can be listed themselves",
    ],
  ]);
});

Deno.test("schedulers need the numbers that have no default, and no NaN", () => {
  const o = sgd();
  const finite = "it must be a finite number";
  const plateau = (options: object) => () => new optim.ReduceLROnPlateau(o, options);
  const cycle = (options: object) => () => new optim.OneCycleLR(o, any(options));
  checkErrors(RangeError, [
    [
      () => new optim.StepLR(o, any({})),
      "Cannot use StepLR with stepSize undefined: it must be a whole number of at least 1",
    ],
    [
      () => new optim.StepLR(o, { stepSize: 1, gamma: NaN }),
      `Cannot use StepLR with gamma NaN: ${finite}`,
    ],
    [
      () => new optim.MultiStepLR(o, { milestones: [1, 2.5] }),
      "Cannot use MultiStepLR with milestones [1, 2.5]: it must be whole numbers",
    ],
    [
      () => new optim.MultiStepLR(o, { milestones: [1], gamma: any("0.1") }),
      `Cannot use MultiStepLR with gamma "0.1": ${finite}`,
    ],
    [
      () => new optim.ExponentialLR(o, any({})),
      `Cannot use ExponentialLR with gamma undefined: ${finite}`,
    ],
    [
      () => new optim.CosineAnnealingLR(o, { tMax: 5, etaMin: NaN }),
      `Cannot use CosineAnnealingLR with etaMin NaN: ${finite}`,
    ],
    [
      () => new optim.LinearLR(o, { totalIters: NaN }),
      "Cannot use LinearLR with totalIters NaN: it must be a whole number of at least 1",
    ],
    [
      () => new optim.PolynomialLR(o, { power: Infinity }),
      `Cannot use PolynomialLR with power Infinity: ${finite}`,
    ],
    [
      () => new optim.CosineAnnealingWarmRestarts(o, { t0: 5, etaMin: any(null) }),
      `Cannot use CosineAnnealingWarmRestarts with etaMin null: ${finite}`,
    ],
    [cycle({ totalSteps: 9 }), `Cannot use OneCycleLR with maxLr undefined: ${finite}`],
    [cycle({ totalSteps: 9, maxLr: [NaN] }), `Cannot use OneCycleLR with maxLr NaN: ${finite}`],
    [
      cycle({ maxLr: 1 }),
      "Cannot use OneCycleLR with totalSteps undefined: it must be a whole number of at least 1",
    ],
    [
      cycle({ totalSteps: 9, maxLr: 1, divFactor: NaN }),
      `Cannot use OneCycleLR with divFactor NaN: ${finite}`,
    ],
    [
      plateau({ patience: NaN }),
      "Cannot use ReduceLROnPlateau with patience NaN: it must be at least 0",
    ],
    [plateau({ minLr: [NaN] }), `Cannot use ReduceLROnPlateau with minLr NaN: ${finite}`],
    [plateau({ threshold: NaN }), `Cannot use ReduceLROnPlateau with threshold NaN: ${finite}`],
  ]);
  checkErrors(TypeError, [
    [
      () => new optim.MultiStepLR(o, any({})),
      "Cannot use MultiStepLR with milestones undefined: it must be a list, as in [30, 80]",
    ],
    [
      () => new optim.LambdaLR(o, any({})),
      "Cannot use LambdaLR with lrLambda undefined: it must be a function, as in " +
      "(epoch) => 0.9 ** epoch, or one for each group",
    ],
    [
      () => new optim.SequentialLR(o, any({ milestones: [5] })),
      "Cannot run schedulers with schedulers undefined: it must be a list, as in [a, b]",
    ],
    [
      () => new optim.SequentialLR(o, any({ schedulers: [] })),
      "Cannot run schedulers with milestones undefined: it must be a list, as in [5]",
    ],
  ]);
  assertEquals(o.paramGroups.map(({ lr }) => lr), sgd().paramGroups.map(({ lr }) => lr));
});

Deno.test("optimizers take no closure", () => {
  const params = linear.parameters();
  for (const make of [optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad]) {
    using optimizer = new make(params);
    checkErrors(TypeError, [[
      () => optimizer.step(any(() => 1)),
      `Cannot step ${make.name} with options a function: write loss.backward(), then optimizer.step()`,
    ]]);
  }
});

Deno.test("states and files hold tensors by name", async () => {
  const state = "it must be tensors by name, as stateDict() gives them";
  const weights = { ...linear.stateDict() };
  checkErrors(TypeError, [
    [() => linear.loadStateDict(any(3)), `Cannot load the state of Linear from 3: ${state}`],
    [
      () => linear.loadStateDict(any(linear)),
      `Cannot load the state of Linear from a Linear: ${state}`,
    ],
    [
      () => linear.loadStateDict(any(Promise.resolve(weights))),
      `Cannot load the state of Linear from a Promise: ${state}`,
    ],
    [
      () => linear.loadStateDict({ ...weights, bias: any(2) }),
      "Cannot load the state of Linear with bias 2: it must be a tensor",
    ],
    [
      () => linear.loadStateDict(any({ model: weights }), { strict: false }),
      "Cannot load the state of Linear with model an object with weight and bias: it must be a tensor",
    ],
  ]);
  const rejects = async (tensors: unknown, message: string) => {
    for (const save of [nn.io.saveSafetensors, nn.io.saveNpz]) {
      const error = await assertRejects(() => save("/nowhere/a", any(tensors)), TypeError);
      assertEquals(error.message, message);
    }
  };
  await rejects(
    { model: weights },
    "Cannot save model, an object with weight and bias: it must be a tensor; a file has tensors by " +
      "name, as model.stateDict() gives them",
  );
  const names = "write tensors by name, as model.stateDict() gives them";
  await rejects(new Map([["x", ones([1])]]), `Cannot save a Map: ${names}`);
  await rejects([ones([1])], `Cannot save [a tensor [1]]: ${names}`);
});

Deno.test("loaders take a data set and a sampler, and keep to the data set", async () => {
  checkErrors(TypeError, [
    [
      () => new DataLoader(numbers, { sampler: any([0, 1]) }),
      "Cannot load with the sampler [0, 1]: it must have length and indices(epoch); chosen samples " +
      "are new Subset(dataset, [0, 1])",
    ],
    [
      () => new DataLoader(any([1, 2])),
      "Cannot load from [1, 2]: a data set must have length and get(index)",
    ],
  ]);
  for (const [wrong, text] of [[4, "4"], [-1, "-1"], [0.5, "0.5"], [any(), "undefined"]] as const) {
    const sampler = { length: 2, indices: () => [0, wrong] };
    const loader = new DataLoader(numbers, { sampler, batchSize: 2 });
    const { message } = await assertRejects(() => Array.fromAsync(loader), RangeError);
    assertEquals(
      message,
      `Cannot load sample ${text}, which the sampler names for epoch 0: the data set has 0 to 3`,
    );
  }
  const last = new DataLoader(numbers, { sampler: { length: 2, indices: () => [3, 0] } });
  assertEquals(await Array.fromAsync(last), [[3], [0]]);
});

Deno.test("what was right still is", () => {
  const x = randn([2, 1, 3]);
  const lstm = new nn.LSTM(3, 2);
  const { hn, cn } = lstm.forward(x);
  assertEquals(lstm.forward(x, { h0: hn, c0: cn, lengths: [1] }).output.shape, [2, 1, 2]);
  const group = { params: linear.parameters(), lr: 0.5, initialLr: 0.1 };
  assertEquals(new optim.SGD([group], { momentum: undefined }).paramGroups[0]!.lr, 0.5);
  assertEquals(new optim.SGD(new Set(linear.parameters())).paramGroups[0]!.params.length, 2);
});

Deno.test("right calls of unusual forms are taken", () => {
  class Options {
    lr = 0.1;
    _note = "mine";
  }
  const w = new nn.Parameter(zeros([2]));
  new nn.optim.Adam([w], { lr: 0.1, ...{ maximize: undefined } });
  new nn.Linear(2, 2, new Options() as { bias?: boolean });
  const layer = new nn.Linear(2, 2);
  class Net extends nn.Module {
    lin = layer;
    options = { encoder: layer };
    override forward(x: Tensor): Tensor {
      return this.options.encoder.forward(x);
    }
  }
  assertEquals(Object.keys(new Net().stateDict()), ["lin.weight", "lin.bias"]);
  assertEquals(zeros([2, 3, 4]).sum(new Int32Array([0, 1]) as unknown as number[]).shape, [4]);
});
