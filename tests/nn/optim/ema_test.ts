import { assert, assertEquals, assertThrows } from "@std/assert";
import { gpu } from "../../../engine/gpu/device.ts";
import { init, memory, nn, profile, scope, tensor, zeros } from "../../../mod.ts";
import { Draw } from "../../helpers/draw.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";

await init();

const { EMA } = nn.optim;
const half = gpu().info.features.has("shader-f16");

for (const dtype of ["f32", "f16"] as const) {
  Deno.test({
    name: `EMA follows ${dtype} tensors of every size as float64 does`,
    ignore: dtype === "f16" && !half,
    fn: async () => {
      const before = memory().liveBytes;
      const draw = new Draw("ema");
      const unit = dtype === "f32" ? 2 ** -24 : 2 ** -11;
      const shapes = [[1], [3, 4], [7], [5, 53], [2, 128]];
      const drawn = () =>
        shapes.map((s) => Array.from({ length: s.reduce((n, d) => n * d) }, () => draw.weight()));
      for (const decay of [0, 0.9, 1]) {
        using average = new EMA({ decay });
        const start = drawn();
        const into = start.map((v, i) => tensor(v, { shape: shapes[i]!, dtype }));
        const want = await Promise.all(into.map(async (t) => Float64Array.from(await t.data())));
        const steps = 3;
        for (let step = 0; step < steps; step++) {
          const from = drawn().map((v, i) => tensor(v, { shape: shapes[i]!, dtype }));
          scope(() => average.update(into, from));
          for (const [i, t] of from.entries()) {
            (await t.data()).forEach((x, e) => {
              want[i]![e] = decay * want[i]![e]! + (1 - decay) * x;
            });
            t.dispose();
          }
        }
        for (const [i, t] of into.entries()) {
          (await t.data()).forEach((got, e) => {
            // Three roundings a step, of numbers up to 2.
            const most = 3 * steps * unit * 4;
            assert(
              Math.abs(got - want[i]![e]!) <= most,
              `${decay} ${i} ${e}: ${got}, ${want[i]![e]}`,
            );
          });
          t.dispose();
        }
      }
      assertNothingLeft(before);
    },
  });
}

Deno.test("EMA takes one pass over its tensors and records no gradient", async () => {
  using average = new EMA({ decay: 0.5 });
  using a = new nn.Linear(4, 4);
  using b = new nn.Linear(4, 4);
  average.update(a.parameters(), b.parameters());
  const { dispatches } = await profile(() => average.update(a.parameters(), b.parameters()));
  assert(dispatches.length <= a.parameters().length, `${dispatches.length}`);
  assert(a.parameters().every((p) => p.requiresGrad && p.grad === null));
});

Deno.test("EMA says what does not fit, and moves nothing then", async () => {
  using a = zeros([2]);
  using b = zeros([2]).add(1);
  using c = zeros([3]);
  using average = new EMA();
  assertThrows(() => new EMA({ decay: 1.5 }), RangeError, "decay 1.5: it must be from 0 to 1");
  assertThrows(
    () => average.update([a, b], [b]),
    RangeError,
    "Cannot average 1 tensors into 2: give one for each",
  );
  assertThrows(() => average.update([a, b], [b, c]), TypeError, "f32 of one shape");
  assertEquals([...await a.data()], [0, 0]);
});

Deno.test("EMA.update() leaves what average and value share", async () => {
  const [model, teacher] = [new nn.Linear(2, 2), new nn.Linear(2, 2)];
  teacher.bias = model.bias;
  const [w, t, b] = await Promise.all(
    [model.weight, teacher.weight, model.bias!].map((p) => p.data()),
  );
  new nn.optim.EMA({ decay: 0.75 }).update(teacher.parameters(), model.parameters());
  assertEquals(await teacher.bias!.data(), b);
  const moved = await teacher.weight.data();
  moved.forEach((v, i) => {
    const want = 0.75 * Number(t![i]) + 0.25 * Number(w![i]);
    assert(
      Math.abs(Number(v) - want) <= 4 * 2 ** -24 * (Math.abs(Number(t![i])) + Math.abs(want)),
      `${i}`,
    );
  });
});

Deno.test("optimizers take a gradient that is the parameter itself", async () => {
  for (const [make, want] of [[nn.optim.SGD, 0.5], [nn.optim.Adagrad, 0.5]] as const) {
    const w = tensor([1, 1], { requiresGrad: true });
    w.grad = w.detach();
    new make([w], { lr: 0.5 }).step();
    assertEquals([...await w.data()], [want, want], make.name);
  }
});
