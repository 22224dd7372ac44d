import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  autocast,
  cat,
  init,
  manualSeed,
  noGrad,
  ones,
  randn,
  tensor,
  unscaleGradients,
  updateLossScale,
  zeros,
} from "../../engine/mod.ts";
import { autocastLists } from "../../engine/autocast.ts";
import { allOps } from "../../engine/op.ts";

const info = await init();
const ignore = !info.features.has("shader-f16");

Deno.test({
  name: "autocast() runs products in f16, sums in f32 and leaves pointwise ops as they are",
  ignore,
  fn() {
    const [a, b] = [randn([4, 8]), randn([8, 2])];
    autocast({}, () => {
      const y = a.matmul(b);
      assertEquals(y.dtype, "f16");
      assertEquals(y.relu().dtype, "f16");
      assertEquals(y.add(ones([2])).dtype, "f32");
      assertEquals(y.sum().dtype, "f32");
      assertEquals(y.softmax(1).dtype, "f32");
      assertEquals(cat([y, y.to("f32")]).dtype, "f32");
      assertEquals(autocast({ enabled: false }, () => a.matmul(b)).dtype, "f32");
    });
    assertEquals(a.matmul(b).dtype, "f32");
  },
});

Deno.test({
  name: "autocast() gives f32 parameters f32 gradients, near those of f32",
  ignore,
  async fn() {
    manualSeed(3);
    const x = randn([8, 32]);
    const w = randn([16, 32], { requiresGrad: true });
    const run = async (narrow: boolean) => {
      w.grad = null;
      autocast({ enabled: narrow }, () => x.linear(w).relu().sum()).backward();
      assertEquals(w.grad!.dtype, "f32");
      return await w.grad!.data();
    };
    const [half, full] = [await run(true), await run(false)];
    // dW sums 8 rows of x rounded to f16 (relative 2^-11), and is rounded to f16 once itself. An
    // output within rounding of 0 may take the other side of the kink: those rows are left out.
    const y = await noGrad(() => x.linear(w)).data();
    for (let n = 0; n < 16; n++) {
      const near = Array.from({ length: 8 }, (_, b) => Math.abs(y[b * 16 + n]!)).some((v) =>
        v < 0.05
      );
      if (near) continue;
      for (let k = 0; k < 32; k++) {
        const i = n * 32 + k;
        assert(
          Math.abs(half[i]! - full[i]!) <= 2 ** -11 * (8 * 4 + Math.abs(full[i]!)),
          `${n}, ${k}`,
        );
      }
    }
  },
});

Deno.test("autocast() says what is missing where the adapter has no f16", async () => {
  if (ignore) {
    assertThrows(() => autocast({}, () => {}), TypeError, "no shader-f16");
    return;
  }
  await init();
  assertThrows(
    () =>
      autocast({}, () => {
        throw new Error("from inside");
      }),
    Error,
    "from inside",
  );
  // The mode was put back although the function threw.
  assertEquals(ones([2, 2]).matmul(ones([2, 2])).dtype, "f32");
});

Deno.test("autocast()'s lists name ops, each once", () => {
  const { half, asGiven, widest } = autocastLists();
  const names = [...half, ...asGiven, ...widest];
  assertEquals(new Set(names).size, names.length);
  const unknown = names.filter((name) => !allOps().has(name));
  // Composite functions are not ops; these are named because they may become ones.
  assertEquals(unknown.filter((name) => !["convTranspose2d", "flip"].includes(name)), []);
});

Deno.test("the loss scale backs off after an overflow and grows after a run without", async () => {
  const state = tensor([8, 0]);
  const found = zeros([1], { dtype: "u32" });
  const rule = { growthFactor: 2, backoffFactor: 0.5, growthInterval: 3 };
  const seen: number[] = [];
  const step = async (grad: number[]) => {
    const g = tensor(grad);
    unscaleGradients([g], state, found);
    const flagged = (await found.data())[0];
    updateLossScale(state, found, rule);
    seen.push((await state.data())[0]!);
    assertEquals((await found.data())[0], 0);
    return { flagged, g: [...await g.data()] };
  };
  assertEquals(await step([8, -4]), { flagged: 0, g: [1, -0.5] });
  assertEquals((await step([1, Infinity])).flagged, 1);
  assertEquals((await step([NaN])).flagged, 1);
  for (let i = 0; i < 4; i++) assertEquals((await step([0])).flagged, 0);
  assertEquals(seen, [8, 4, 2, 2, 2, 4, 4]);
  assertThrows(() => unscaleGradients([], tensor([1]), found), TypeError, "f32 [2] and u32 [1]");
});
