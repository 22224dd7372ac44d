import { assertEquals, assertThrows } from "@std/assert";
import { init, memory, nn, randn, readAll, scope, tensor } from "../../mod.ts";

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
  assertEquals(memory().liveBytes, before);
  assertEquals(await total.item(), 9);
});

Deno.test("metrics throw for shapes that do not fit", () => {
  using logits = randn([2, 3]);
  using target = tensor([0, 1, 2], { dtype: "i32" });
  using two = tensor([0, 1], { dtype: "i32" });
  const { accuracy, topkAccuracy } = nn.metrics;
  assertThrows(() => accuracy(logits, target), TypeError, "logits [2, 3] and target [3]");
  assertThrows(() => topkAccuracy(two, two, { k: 1 }), TypeError, "must be [N, C] and [N]");
  assertThrows(() => topkAccuracy(logits, two, { k: 4 }), RangeError, "k must be 1 to 3");
});
