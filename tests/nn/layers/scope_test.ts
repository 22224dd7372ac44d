/** A forward in a scope leaves nothing behind but its result, and with a backward its gradients. */

import { assert } from "@std/assert";
import { init, memory, nn, rand, scope, synchronize, type Tensor, tensor } from "../../../mod.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";
import { drawn } from "../../helpers/numbers.ts";

await init();

const small = { dimFeedforward: 6, batchFirst: true };
const encoderLayer = () => new nn.TransformerEncoderLayer(4, 2, small);
const decoderLayer = () => new nn.TransformerDecoderLayer(4, 2, small);
const image = () => [drawn("image", [2, 4, 4, 6])];
const volume = () => [drawn("volume", [2, 4, 3, 4, 5])];
const row = () => [drawn("row", [2, 4, 6])];
const pair = () => [drawn("a", [4, 6]), drawn("b", [4, 6])];
const sides = () => tensor([1, -1, 1, -1]);

/** Layers, and what they take. */
const LAYERS: [() => nn.Module, () => Tensor[]][] = [
  [() => new nn.PReLU(4), image],
  [() => new nn.GLU(1), image],
  [() => new nn.Softshrink(), image],
  [() => new nn.Hardshrink(), image],
  [() => new nn.Tanhshrink(), image],
  [() => new nn.Threshold(0.1, 2), image],
  [() => new nn.Softmin(1), image],
  [() => new nn.Unflatten(1, [2, -1]), image],
  [() => new nn.Dropout1d(0.5), row],
  [() => new nn.Dropout1d(1), row],
  [() => new nn.Dropout2d(0.5), image],
  [() => new nn.MaxPool1d(3, { padding: 1 }), row],
  [() => new nn.AvgPool1d(3, { padding: 1 }), row],
  [() => new nn.AdaptiveAvgPool1d(4), row],
  [() => new nn.AdaptiveMaxPool1d(4), row],
  [() => new nn.Softmax2d(), image],
  [() => new nn.AdaptiveMaxPool2d([3, 2]), image],
  [() => new nn.ZeroPad2d([1, 2, -1, 0]), image],
  [() => new nn.ConstantPad2d(1, 2), image],
  [() => new nn.ReflectionPad2d(2), image],
  [() => new nn.ReplicationPad2d(2), image],
  [() => new nn.CircularPad2d(2), image],
  [() => new nn.Upsample({ scaleFactor: 1.7, mode: "bilinear" }), image],
  [() => new nn.Upsample({ size: 3 }), image],
  [() => new nn.PixelShuffle(2), image],
  [() => new nn.PixelUnshuffle(2), image],
  [() => new nn.ConvTranspose1d(4, 2, { kernelSize: 3, stride: 2 }), row],
  [() => new nn.Conv3d(4, 2, { kernelSize: 3, padding: 1 }), volume],
  [() => new nn.ConvTranspose3d(4, 2, { kernelSize: 3, stride: 2 }), volume],
  [() => new nn.MaxPool3d(2), volume],
  [() => new nn.AvgPool3d(2, { padding: 1 }), volume],
  [() => new nn.AdaptiveAvgPool3d(2), volume],
  [() => new nn.AdaptiveMaxPool3d(2), volume],
  [() => new nn.InstanceNorm3d(4), volume],
  [() => new nn.Dropout3d(0.5), volume],
  [() => new nn.ReflectionPad3d(1), volume],
  [() => new nn.ReplicationPad1d(2), row],
  [() => new nn.Unfold([2, 3], { padding: 1, stride: 2 }), image],
  [() => new nn.Fold([3, 4], 2), () => [drawn("columns", [2, 8, 6])]],
  [() => new nn.CosineSimilarity(), pair],
  [() => new nn.PairwiseDistance(), pair],
  [() => new nn.CosineEmbeddingLoss(), () => [...pair(), sides()]],
  [() => new nn.TripletMarginLoss({ swap: true }), () => [...pair(), drawn("c", [4, 6])]],
  [() => new nn.MarginRankingLoss(), () => [...pair(), drawn("c", [4, 6])]],
  [() => new nn.GaussianNLLLoss({ full: true }), () => [...pair(), drawn("v", [4], 0, 1)]],
  [() => new nn.PoissonNLLLoss({ full: true }), pair],
  [encoderLayer, () => [drawn("x", [2, 3, 4])]],
  [decoderLayer, () => [drawn("x", [2, 3, 4]), drawn("memory", [2, 5, 4])]],
  [
    () => new nn.TransformerEncoder(encoderLayer(), 2, new nn.LayerNorm([4])),
    () => [drawn("x", [2, 3, 4])],
  ],
  [
    () => new nn.TransformerDecoder(decoderLayer(), 2),
    () => [drawn("x", [2, 3, 4]), drawn("memory", [2, 5, 4])],
  ],
];

Deno.test("layers leave nothing behind in a scope but their output, and then their gradients", async () => {
  // The random generator's state on the GPU is made by its first use, and stays.
  rand([1]).dispose();
  for (const [make, inputs] of LAYERS) {
    await synchronize();
    const start = memory().liveBytes;
    const layer = make();
    const given = inputs();
    given[0]!.requiresGrad_();
    const held = memory().liveBytes;
    const forward = layer.forward as (...inputs: Tensor[]) => Tensor;
    scope(() => forward(...given).detach()).dispose();
    assertNothingLeft(held, `${layer.constructor.name}, forward:`);
    scope(() => forward(...given).sum().backward());
    const learned = [given[0]!, ...layer.parameters()];
    assert(learned.every((t) => t.grad), layer.constructor.name);
    for (const t of learned) t.grad = null;
    await synchronize();
    assertNothingLeft(held, `${layer.constructor.name}, backward:`);
    for (const t of [...given, layer]) t.dispose();
    assertNothingLeft(start, `${layer.constructor.name}, freed:`);
  }
});
