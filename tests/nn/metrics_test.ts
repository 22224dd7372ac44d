import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init, memory, nn, randn, readAll, scope, tensor } from "../../mod.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

await init();

const LOGITS = [[5, 1, 0, 2], [1, 2, 3, 4], [0, 9, 1, 1], [2, 2, 2, 2], [4, 3, 2, 1]];
const TARGET = [0, 2, 0, 1, 3];

Deno.test("accuracy() counts rows whose largest logit is the target's", async () => {
  using logits = tensor(LOGITS, { requiresGrad: true });
  using target = tensor(TARGET, { dtype: "i32" });
  const results = [
    nn.metrics.accuracy(logits, target),
    nn.metrics.accuracy(logits, target, { reduction: "sum" }),
  ];
  assertEquals((await readAll(results)).map((d) => d[0]), [Math.fround(0.2), 1]);
  assertEquals(results.map((r) => [r.shape, r.dtype, r.requiresGrad]), [
    [[], "f32", false],
    [[], "f32", false],
  ]);
  for (const r of results) r.dispose();
});

Deno.test("topkAccuracy() counts rows with the target among the k largest", async () => {
  using logits = tensor(LOGITS);
  using target = tensor(TARGET, { dtype: "i32" });
  // Ranks of the targets, ties by position: 0, 1, 3 (after 9, 1, 1), 1, 3.
  const results = [1, 2, 3, 4].map((k) =>
    nn.metrics.topkAccuracy(logits, target, { k, reduction: "sum" })
  );
  assertEquals((await readAll(results)).map((d) => d[0]), [1, 3, 3, 5]);
  using share = nn.metrics.topkAccuracy(logits, target, { k: 2 });
  assertEquals(await share.item(), Math.fround(0.6));
  for (const r of results) r.dispose();
});

Deno.test("metrics add up over batches on the GPU and leave nothing behind", async () => {
  using logits = tensor(LOGITS);
  using target = tensor(TARGET, { dtype: "i32" });
  using total = tensor([0]);
  const before = memory().liveBytes;
  for (let i = 0; i < 3; i++) {
    scope(() => total.add_(nn.metrics.topkAccuracy(logits, target, { k: 2, reduction: "sum" })));
  }
  assertNothingLeft(before);
  assertEquals(await total.item(), 9);
});

Deno.test("metrics throw for shapes that do not fit", () => {
  using logits = randn([2, 3]);
  using target = tensor([0, 1, 2], { dtype: "i32" });
  using two = tensor([0, 1], { dtype: "i32" });
  const { accuracy, topkAccuracy } = nn.metrics;
  assertThrows(() => accuracy(logits, target), TypeError, "logits [2, 3] and target [3]");
  assertThrows(() => topkAccuracy(two, two, { k: 1 }), TypeError, "must be [N, C] and [N]");
  assertThrows(
    () => topkAccuracy(logits, two, { k: 4 }),
    RangeError,
    "k must be a whole number from 1 to 3",
  );
});

Deno.test("meanRecall() averages the recall of the classes that occur", async () => {
  using logits = tensor(LOGITS);
  // Largest at 0, 3, 1, 0, 0. Class 0: 1 of 2 found; class 3: 1 of 1; class 1: 1 of 2; class 2 is absent.
  using target = tensor([0, 3, 1, 1, 0], { dtype: "i32" });
  using recall = nn.metrics.meanRecall(logits, target);
  assertEquals([recall.shape, await recall.item()], [[], Math.fround((1 + 1 + 0.5) / 3)]);
  using mixed = nn.metrics.meanRecall(logits, tensor([0, 3, 2, 0, 2], { dtype: "i32" }));
  assertAlmostEquals(await mixed.item(), (1 + 1 + 0) / 3, 1e-7);
  using wrong = nn.metrics.meanRecall(logits, tensor([0, 4, 2, 0, 2], { dtype: "i32" }));
  await assertRejects(() => wrong.item(), RangeError, "index 4: indices must be 0 to 3");
});

Deno.test("meanAbsoluteError() divides by all elements, masked ones too", async () => {
  using a = tensor([[1, 2], [3, 4]]);
  using b = tensor([2, 0]);
  using all = nn.metrics.meanAbsoluteError(a, b);
  using some = nn.metrics.meanAbsoluteError(a, b, { mask: tensor([[1, 1], [0, 0]]) });
  assertEquals((await readAll([all, some])).map((d) => d[0]), [2, 0.75]);
});

Deno.test("averagePrecision() sums precision over steps of recall", () => {
  const { averagePrecision } = nn.metrics;
  // Ranked: 0.8 yes, 0.4 no, 0.35 yes, 0.1 no → 1/2 · 1 + 1/2 · 2/3.
  assertAlmostEquals(averagePrecision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 5 / 6, 1e-15);
  // Ties are one step: of the two at 0.5 one is right; then 0.1 → 1/2 · 1/2 + 1/2 · 2/3.
  assertAlmostEquals(averagePrecision([0.5, 0.5, 0.1], [1, 0, 1]), 7 / 12, 1e-15);
  assertEquals(averagePrecision([1, 2], [1, 1]), 1);
  assertEquals(averagePrecision([1, 2], [0, 0]), 0);
  assertThrows(() => averagePrecision([1], [1, 0]), TypeError, "1 scores and 2 labels");
  assertThrows(() => averagePrecision([NaN], [1]), TypeError, "score 0 is NaN");
});

Deno.test("paddedCmap() pads every class with rows of ones", () => {
  const { paddedCmap } = nn.metrics;
  // Class 0: five padded rows, then 0.9 (yes) and 0.2 (no): 1. Class 1: padded, then 0.8 no, 0.1 yes:
  // 5/6 · 1 + 1/6 · 6/7. Class 2 has no positive: padded rows alone, 1.
  const scores = [[0.9, 0.8, 0.3], [0.2, 0.1, 0.4]];
  const want = (1 + (5 / 6 + 1 / 7) + 1) / 3;
  assertAlmostEquals(paddedCmap(scores, [0, 1]), want, 1e-15);
  assertAlmostEquals(paddedCmap(scores, [[1, 0, 0], [0, 1, 0]]), want, 1e-15);
  // Without padding: 1, 1/2, 0.
  assertAlmostEquals(paddedCmap(scores, [0, 1], { paddingFactor: 0 }), 0.5, 1e-15);
  assertThrows(
    () => paddedCmap(scores, [0, 3]),
    RangeError,
    "class 3 of row 1: ids must be 0 to 2",
  );
  assertThrows(() => paddedCmap(scores, [0]), TypeError, "2 rows of 3 scores and 1 labels");
  assertThrows(() => paddedCmap([[1, 2], [1]], [0, 1]), TypeError, "row 1 must have 2 numbers");
});

Deno.test("bleu() of a corpus", () => {
  const { bleu } = nn.metrics;
  const words = (text: string) => text.split(" ");
  const cat = words("the cat is on the mat");
  assertEquals(bleu([cat], [[cat]]), 1);
  // The paper's example: "the" counts as often as in one reference, 2 of 7.
  const the = words("the the the the the the the");
  const refs = [cat, words("there is a cat on the mat")];
  assertAlmostEquals(bleu([the], [refs], { maxN: 1 }), 2 / 7, 1e-15);
  assertEquals(bleu([the], [refs]), 0);
  // Unigrams 5/5, bigrams 3/4 (the cat, cat on: no, on the, the mat); 5 words for 6: exp(1 - 6/5).
  const short = words("the cat on the mat");
  assertAlmostEquals(
    bleu([short], [[cat]], { maxN: 2 }),
    Math.exp(1 - 6 / 5) * Math.sqrt(3 / 4),
    1e-15,
  );
  // A corpus adds counts before dividing: 5 + 2 of 5 + 7 words; lengths 12 for 6 + 7 (nearest of 6, 7).
  assertAlmostEquals(
    bleu([short, the], [[cat], refs], { maxN: 1 }),
    Math.exp(1 - 13 / 12) * 7 / 12,
    1e-15,
  );
  assertEquals(bleu([[1, 2, 3, 4]], [[[1, 2, 3, 4], [9]]]), 1);
  assertThrows(() => bleu([cat], [[]]), TypeError, "each candidate needs one or more");
  assertThrows(() => bleu([cat], [[cat]], { maxN: 0 }), RangeError, "maxN 0");
});
