/** Calls as in PyTorch, or with what is no tensor: each must say what would be right. */

import { assertEquals } from "@std/assert";
import * as lathe from "../../engine/mod.ts";
import { any, checkAllOptions, checkErrors } from "../helpers/wrong_calls.ts";

await lathe.init();

const { autocast, capture, grad, ones, randn, tensor, zeros } = lathe;
const x = randn([2, 3], { requiresGrad: true });
const image = zeros([1, 1, 4, 4]);
const ids = tensor([0, 1], { dtype: "i32" });

Deno.test("every function asks for its options by name", () => {
  const y = zeros([2, 3]), row = zeros([4]);
  checkAllOptions({
    tensor: (o) => tensor([1], o),
    zeros: (o) => zeros([2], o),
    ones: (o) => ones([2], o),
    full: (o) => lathe.full([2], 1, o),
    zerosLike: (o) => lathe.zerosLike(y, o),
    onesLike: (o) => lathe.onesLike(y, o),
    arange: (o) => lathe.arange(0, 4, o),
    linspace: (o) => lathe.linspace(0, 1, o),
    eye: (o) => lathe.eye(2, o),
    rand: (o) => lathe.rand([2], o),
    randn: (o) => randn([2], o),
    randint: (o) => lathe.randint(0, 2, o),
    bernoulli: (o) => lathe.bernoulli(0.5, o),
    randLike: (o) => lathe.randLike(y, o),
    randnLike: (o) => lathe.randnLike(y, o),
    dropout: (o) => lathe.dropout(y, 0.5, o),
    linear: (o) => lathe.linear(y, zeros([4, 3]), undefined, o),
    interpolate: (o) => lathe.interpolate(image, o),
    warpAffine: (o) => lathe.warpAffine(image, zeros([1, 2, 3]), o),
    fromBytes: (o) => lathe.fromBytes(new Uint8Array(4), o),
    conv2d: (o) => lathe.conv2d(image, ones([1, 1, 3, 3]), o),
    conv3d: (o) => lathe.conv3d(ones([1, 1, 3, 3, 3]), ones([1, 1, 3, 3, 3]), o),
    convTranspose3d: (o) => lathe.convTranspose3d(ones([1, 1, 3, 3, 3]), ones([1, 1, 3, 3, 3]), o),
    maxPool3d: (o) => lathe.maxPool3d(ones([1, 3, 3, 3]), 2, o),
    avgPool3d: (o) => lathe.avgPool3d(ones([1, 3, 3, 3]), 2, o),
    unfold: (o) => lathe.unfold(ones([1, 1, 3, 3]), 2, o),
    fold: (o) => lathe.fold(ones([1, 4, 4]), 3, 2, o),
    attention: (o) => lathe.scaledDotProductAttention({ query: y, key: y, value: y }, o),
    multiboxPrior: (o) => lathe.multiboxPrior(image, o),
    nms: (o) => lathe.nms(zeros([3, 6]), o),
    embedding: (o) => lathe.embedding(ids, y, o),
    oneHot: (o) => lathe.oneHot(ids, 2, o),
    crossEntropy: (o) => lathe.crossEntropy(y, ids, o),
    nllLoss: (o) => lathe.nllLoss(y, ids, o),
    mseLoss: (o) => lathe.mseLoss(y, y, o),
    l1Loss: (o) => lathe.l1Loss(y, y, o),
    smoothL1Loss: (o) => lathe.smoothL1Loss(y, y, o),
    huberLoss: (o) => lathe.huberLoss(y, y, o),
    bceLoss: (o) => lathe.bceLoss(y, y, o),
    bceWithLogitsLoss: (o) => lathe.bceWithLogitsLoss(y, y, o),
    klDiv: (o) => lathe.klDiv(y, y, o),
    focalLoss: (o) => lathe.focalLoss(y, y, o),
    focalCosineLoss: (o) => lathe.focalCosineLoss(y, ids, o),
    softCrossEntropyLoss: (o) => lathe.softCrossEntropyLoss(y, ids, o),
    biTemperedLogisticLoss: (o) => lathe.biTemperedLogisticLoss(y, ids, o),
    cosineSimilarity: (o) => lathe.cosineSimilarity(y, y, o),
    pairwiseDistance: (o) => lathe.pairwiseDistance(y, y, o),
    cosineEmbeddingLoss: (o) => lathe.cosineEmbeddingLoss(y, y, ids, o),
    tripletMarginLoss: (o) => lathe.tripletMarginLoss(y, { positive: y, negative: y }, o),
    marginRankingLoss: (o) => lathe.marginRankingLoss(y, y, y, o),
    gaussianNllLoss: (o) => lathe.gaussianNllLoss(y, y, y, o),
    poissonNllLoss: (o) => lathe.poissonNllLoss(y, y, o),
    batchNorm: (o) => lathe.batchNorm(image, o),
    layerNorm: (o) => lathe.layerNorm(y, o),
    groupNorm: (o) => lathe.groupNorm(image, 1, o),
    instanceNorm: (o) => lathe.instanceNorm(image, o),
    rmsNorm: (o) => lathe.rmsNorm(y, o),
    normalize: (o) => lathe.normalize(y, o),
    clipGradNorm: (o) => lathe.clipGradNorm([x], o),
    gridSample: (o) => lathe.gridSample(image, zeros([1, 2, 2, 2]), o),
    affineGrid: (o) => lathe.affineGrid(zeros([1, 2, 3]), [1, 1, 4, 4], o),
    flatten: (o) => lathe.flatten(y, o),
    slice: (o) => lathe.slice(y, 0, o),
    narrow: (o) => lathe.narrow(y, 0, o),
    pad: (o) => lathe.pad(y, [1, 1], o),
    norm: (o) => lathe.norm(y, 2, o),
    add_: (o) => row.add_(1, o),
    indexAdd: (o) => y.indexAdd(0, ids, y, o),
    sort: (o) => y.sort(o),
    argsort: (o) => y.argsort(o),
    topk: (o) => y.topk(1, o),
    addmm: (o) => y.addmm(y, y, o),
    gelu: (o) => y.gelu(o),
    softplus: (o) => y.softplus(o),
    hardtanh: (o) => y.hardtanh(o),
    nanToNum: (o) => y.nanToNum(o),
    clamp: (o) => y.clamp(o),
    diagonal: (o) => y.diagonal(o),
    variance: (o) => y.variance(0, o),
    std: (o) => lathe.std(y, 0, o),
    sum: (o) => y.sum(0, o),
    mean: (o) => lathe.mean(y, 0, o),
    logsumexp: (o) => y.logsumexp(0, o),
    argmax: (o) => y.argmax(0, o),
    grad: (o) => grad(x.sum(), x, o),
    backward: (o) => x.sum().backward(null, o),
    autocast: (o) => autocast(o, () => x),
  });
});

Deno.test("options of other names are refused where all names are known", () => {
  const y = x.sum();
  checkErrors(TypeError, [
    [() => x.clamp(any(0)), "Cannot clamp with options 0: write x.clamp({ min: 0, max: 1 })"],
    [
      () => x.clamp({ min: any(x) }),
      "Cannot clamp from a tensor [2, 3] to Infinity: bounds must be numbers; maximum() and minimum() " +
      "take tensors",
    ],
    [
      () => grad(y, x, any({ create_graph: true })),
      "Cannot take gradients with create_graph: it is createGraph",
    ],
    [
      () => y.backward(null, any({ create_graph: true })),
      "Cannot run backward with createGraph: write grad(y, x, { createGraph: true }), which returns the gradients",
    ],
    [
      () => grad(y, x, any({ retain: true })),
      "Cannot take gradients with retain: it takes gradOutputs, retainGraph, createGraph and allowUnused",
    ],
    [
      () => grad(y, x, { gradOutputs: any(y) }),
      "Cannot take gradients with gradOutputs a tensor []: write grad(y, x, { gradOutputs: [seed] })",
    ],
    [() => x.add(1, any(2)), "Cannot add with options 2: write x.add(y, { alpha: 2 })"],
    [() => x.sub(1, any({ beta: 2 })), "Cannot sub with beta: it takes alpha"],
    [() => x.add(1, { alpha: any("2") }), 'Cannot add with alpha "2": it must be a number'],
    [
      () => lathe.add(ids, 1, { alpha: 0.5 }),
      "Cannot add whole numbers with alpha 0.5: it must be whole, too",
    ],
    [
      () => x.div(2, any("floor")),
      'Cannot div with options "floor": write x.div(y, { roundingMode: "floor" })',
    ],
    [
      () => x.div(2, any({ rounding_mode: "floor" })),
      "Cannot div with rounding_mode: it is roundingMode",
    ],
    [
      () => lathe.div(x, 2, { roundingMode: any("round") }),
      'Cannot div with roundingMode "round": it must be floor or trunc',
    ],
    [() => x.mean(0, any({ keepDim: true })), "Cannot mean with keepDim: it takes keepdim"],
    [() => x.std(any({ dim: 0 })), "Cannot std with dim: it takes correction and keepdim"],
    [
      () => autocast({ dtype: any("bf16") }, () => x),
      'Cannot autocast with dtype "bf16": it must be f16',
    ],
    [
      () => autocast(any({ device: "cuda" }), () => x),
      "Cannot autocast with device: it takes dtype and enabled",
    ],
    [
      () => zeros([2], any({ requires_grad: true })),
      "Cannot make a tensor with requires_grad: it is requiresGrad",
    ],
  ]);
});

Deno.test("what stands in the place of dimensions, seeds and shapes", () => {
  const later = "write x.sum(0, { keepdim: true })";
  const shape = "it must be a list, as in [2, 3]";
  const seed = "the seed must be a tensor, and options come after it, as in y.backward(null, { " +
    "retainGraph: true })";
  checkErrors(TypeError, [
    [() => x.sum(any({ dim: 0 })), `Cannot sum along an object with dim: ${later}`],
    [() => lathe.sum(x, any({ dim: 0 })), `Cannot sum along an object with dim: ${later}`],
    [
      () => x.mean(any({ keepdim: true })),
      "Cannot mean along an object with keepdim: write x.mean(0, { keepdim: true })",
    ],
    [() => x.sum(any(null)), `Cannot sum along null: ${later}`],
    [
      () => x.norm(any({ dim: 1 })),
      "Cannot take the norm with p an object with dim: write x.norm(2, 0)",
    ],
    [
      () => x.sum().backward(any({ retainGraph: true })),
      `Cannot run backward from an object with retainGraph: ${seed}`,
    ],
    [() => x.sum().backward(any(0)), `Cannot run backward from 0: ${seed}`],
    [() => zeros(any(2), any(3)), `Cannot make a tensor of shape 2: ${shape}`],
    [() => randn(any(2), any(3)), `Cannot draw numbers of shape 2: ${shape}`],
    [() => tensor([1, 2], { shape: any(2) }), `Cannot make a tensor of shape 2: ${shape}`],
    [
      () => lathe.randint(0, 5, any({})),
      `Cannot draw numbers of shape undefined: ${shape}`,
    ],
    [
      () => lathe.cat(any(x), any(x)),
      "Cannot cat with a tensor [2, 3]: it must be a list, as in cat([a, b])",
    ],
    [
      () => lathe.stack(any(x), any(x)),
      "Cannot stack with a tensor [2, 3]: it must be a list, as in stack([a, b])",
    ],
  ]);
  checkErrors(RangeError, [[
    () => x.softmax(any({ dim: 1 })),
    "Cannot softmax along dimension an object with dim: a tensor of rank 2 has dimensions -2 to 1",
  ]]);
});

Deno.test("operands and inputs must be tensors", () => {
  const operand = "it must be a tensor or a number";
  checkErrors(TypeError, [
    [() => x.mul(any()), `Cannot mul with undefined: ${operand}`],
    [() => x.add(any(null)), `Cannot add with null: ${operand}`],
    [() => x.mul(any([1, 2])), `Cannot mul with [1, 2]: ${operand}, so write tensor([…])`],
    [() => x.sub(any("2")), `Cannot sub with "2": ${operand}`],
    [() => x.detach().add_(any()), `Cannot add_ with undefined: ${operand}`],
    [() => x.detach().mul_(any({})), `Cannot mul_ with an object with nothing: ${operand}`],
    [() => lathe.add(2, any(null)), `Cannot add with null: ${operand}`],
    [() => lathe.add(any(() => x), 2), `Cannot add with a function: ${operand}`],
    [() => lathe.where(x.gt(0), x, any()), `Cannot where with undefined: ${operand}`],
    [() => x.matmul(any(3)), "Cannot matmul with 3: it must be a tensor"],
    [() => x.where(x.gt(0), any(0)), "Cannot where with 0: it must be a tensor"],
  ]);
});

Deno.test("elements must be numbers", () => {
  const elements = "elements must be numbers or booleans, in arrays or a typed array";
  const tensors = "await its item(), stack() several, or clone() it";
  checkErrors(TypeError, [
    [
      () => tensor(any([x.sum().item()])),
      "Cannot make a tensor of a Promise: await it first, as in tensor([await x.item()])",
    ],
    [() => tensor(any([x, x])), `Cannot make a tensor of a tensor [2, 3]: ${tensors}`],
    [() => tensor(any(x)), `Cannot make a tensor of a tensor [2, 3]: ${tensors}`],
    [() => tensor(any(null)), `Cannot make a tensor of null: ${elements}`],
    [() => tensor(any()), `Cannot make a tensor of undefined: ${elements}`],
    [() => tensor(any(["1"])), `Cannot make a tensor of "1": ${elements}`],
    [() => tensor(any([1, null])), `Cannot make a tensor of null: ${elements}`],
    [
      () => tensor(any([new Float32Array(2)])),
      `Cannot make a tensor of a Float32Array: ${elements}`,
    ],
    [
      () => tensor(any({ length: 2 })),
      `Cannot make a tensor of an object with length: ${elements}`,
    ],
  ]);
});

Deno.test("a captured function takes and gives tensors", () => {
  const gives =
    "it can give tensors, and arrays and plain objects of them, as replays compute nothing " +
    "else";
  checkErrors(TypeError, [
    [
      () => capture(any(() => 0.5))(),
      `Cannot return 0.5 from a captured function: ${gives}`,
    ],
    [
      () => capture(any((t: lathe.Tensor) => ({ t, name: "loss" })))(ones([1])),
      `Cannot return "loss" from a captured function: ${gives}`,
    ],
    [
      () => capture((t: lathe.Tensor) => t.mul(2))(any(3)),
      "Cannot call a captured function with 3 as input 0: it must be a tensor, which replays can copy in",
    ],
  ]);
});

Deno.test("what was right still is", async () => {
  const options = Object.create(null, { keepdim: { value: true, enumerable: true } });
  assertEquals(x.sum([0, 1], options).shape, [1, 1]);
  assertEquals(x.sum(undefined, undefined).shape, []);
  assertEquals(x.std({ keepdim: true }).shape, [1, 1]);
  assertEquals(await tensor([[true], [false]]).array(), [[true], [false]]);
  assertEquals(await tensor(2).array(), 2);
  assertEquals(tensor([]).shape, [0]);
  assertEquals(await tensor([1, 5]).clamp({ max: 3 }).array(), [1, 3]);
  x.sum().backward(undefined, { retainGraph: undefined });
  x.mul(2).sum().backward(tensor(3));
  assertEquals(autocast({ enabled: false, dtype: "f16" }, () => x.add(1)).dtype, "f32");
  const step = capture((t: lathe.Tensor) => ({ y: [t.mul(2)], none: undefined }));
  for (let i = 0; i < 3; i++) assertEquals(await step(tensor([i])).y[0]!.array(), [2 * i]);
});
