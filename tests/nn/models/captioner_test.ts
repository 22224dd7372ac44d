import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  crossEntropy,
  init,
  manualSeed,
  nn,
  noGrad,
  randint,
  randn,
  tensor,
} from "../../../mod.ts";

await init();

Deno.test("captioner() has the notebook's parameters and PyTorch's names", () => {
  using model = nn.models.captioner({ vocabSize: 8492 });
  assertEquals(model.parameters().reduce((n, p) => n + p.size, 0), 32_140_396);
  const names = new Set(Object.keys(model.stateDict()));
  for (
    const name of [
      "encoder.resnet.conv1.weight",
      "encoder.resnet.layer4.2.bn3.running_var",
      "encoder.fc.weight",
      "encoder.batch_norm.running_mean",
      "decoder.embedding.weight",
      "decoder.lstm.weight_ih_l0",
      "decoder.fc.bias",
    ]
  ) {
    assert(names.has(name), name);
  }
});

Deno.test("captioner(): logits by position, gradients only where it is trained, kept features give the same", async () => {
  manualSeed(3);
  using model = nn.models.captioner({ vocabSize: 11, embedDim: 6, hiddenDim: 8, encoder: 18 });
  const images = randn([2, 3, 64, 64]);
  const captions = randint(0, 11, { shape: [2, 5] });
  const logits = model.forward(images, captions);
  assertEquals(logits.shape, [2, 5, 11]);
  crossEntropy(logits.reshape(-1, 11), captions.reshape(-1)).backward();
  for (const [name, p] of model.namedParameters()) {
    assertEquals(p.grad !== null, !name.startsWith("encoder.resnet"), name);
  }
  model.eval();
  const kept = model.encoder.features(images);
  const [a, b] = noGrad(() => [model.forward(images, captions), model.forward(kept, captions)]);
  assertEquals(await b!.data(), await a!.data());
  // The logits for a word do not depend on that word or later ones.
  const other = tensor(
    (await captions.array() as number[][]).map((row) => [...row.slice(0, 3), 1, 2]),
    {
      dtype: "i32",
    },
  );
  const c = await noGrad(() => model.forward(kept, other)).narrow(1, 0, 4).data();
  assertEquals(c, await b!.narrow(1, 0, 4).data());
});

Deno.test("captioner(): frozen statistics stay, and batch statistics move when asked for", async () => {
  const moved = async (freezeStatistics: boolean) => {
    manualSeed(1);
    using model = nn.models.captioner({ vocabSize: 5, encoder: 18, freezeStatistics });
    model.train();
    const mean = model.stateDict()["encoder.resnet.bn1.running_mean"]!;
    const before = await mean.data();
    model.forward(randn([2, 3, 64, 64]), randint(0, 5, { shape: [2, 3] }));
    return (await mean.data()).some((v, i) => v !== before[i]);
  };
  assertEquals(await moved(true), false);
  assertEquals(await moved(false), true);
  assertThrows(
    () => nn.models.captioner({ vocabSize: 5, encoder: 20 as 18 }),
    RangeError,
    "18, 34 or 50",
  );
});

Deno.test("captioner(): forgetBias is added to the forget gates of every layer and to nothing else", async () => {
  const H = 3;
  const decoder = (forgetBias?: number) => {
    manualSeed(1);
    return new nn.models.CaptionDecoder({
      ...{ vocabSize: 5, embedDim: 2, hiddenDim: H, numLayers: 2 },
      forgetBias,
    });
  };
  const plain = decoder(), open = decoder(2);
  for (const [name, before] of plain.namedParameters()) {
    const [old, after] = [await before.data(), await open.stateDict()[name]!.data()];
    const raised = name.startsWith("lstm.bias_ih_l") ? [H, 2 * H] : [0, 0];
    const wanted = Array.from(
      old,
      (v, i) => Math.fround(i >= raised[0]! && i < raised[1]! ? v + 2 : v),
    );
    assertEquals(Array.from(after as Float32Array), wanted, name);
  }
});

Deno.test("Embedding starts as PyTorch's, keeps the padding row at zero and prints itself", async () => {
  manualSeed(2);
  const layer = new nn.Embedding(50, 40, { paddingIdx: -50 });
  assertEquals(`${layer}`, "Embedding(50, 40, padding_idx=0)");
  const rows = await layer.weight.data();
  assert(rows.slice(0, 40).every((v) => v === 0));
  const rest = [...rows.slice(40)];
  const mean = rest.reduce((a, b) => a + b) / rest.length;
  const variance = rest.reduce((a, b) => a + (b - mean) ** 2, 0) / rest.length;
  // 1,960 draws: five standard errors of the mean and of the variance.
  assert(Math.abs(mean) < 5 / Math.sqrt(1960), `mean ${mean}`);
  assert(Math.abs(variance - 1) < 5 * Math.sqrt(2 / 1960), `variance ${variance}`);
  const y = layer.forward(tensor([0, 3, 3], { dtype: "i32" }));
  y.sum().backward();
  const grad = await layer.weight.grad!.data();
  assertEquals([grad[0], grad[40], grad[3 * 40]], [0, 0, 2]);
  assertThrows(() => new nn.Embedding(3, 2, { paddingIdx: 3 }), RangeError, "it must be -3 to 2");
});
