import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import { ADAPTIVE_HYPER, adaptiveStates } from "../../engine/kernels/adaptive.ts";
import { type AdaptiveRule, adaptiveStep, init, readAll, tensor, zeros } from "../../engine/mod.ts";
import { asHardware } from "../helpers/as_hardware.ts";
import { Draw } from "../helpers/draw.ts";

await init();

const RULES: readonly AdaptiveRule[] = [
  { name: "adam", decoupled: true, amsgrad: true },
  { name: "rmsprop", centered: true, momentum: true },
  { name: "adagrad" },
];

const EITHER = [false, true];
/** Every rule with each of its options. */
const ALL_RULES: readonly AdaptiveRule[] = EITHER.flatMap((a) =>
  EITHER.flatMap((b): AdaptiveRule[] => [
    { name: "adam", decoupled: a, amsgrad: b },
    { name: "rmsprop", centered: a, momentum: b },
  ])
).concat({ name: "adagrad" });

const HYPER = {
  adam: [0.1, 0.9, 0.99, 0.1, 0.01, Math.log(0.9), Math.log(0.99), 1e-6, 0.01],
  rmsprop: [0.1, 0.9, 0.1, 1e-6, 0.01, 0.5],
  adagrad: [0.1, 0.01, 1e-6, 0.01],
} as const;

Deno.test("adaptiveStep() gives the same bits to many parameters at once and to each alone", async () => {
  const sizes = [1, 255, 2, 257, 513, 0, 64, 256, 260];
  for (const rule of RULES) {
    const states = adaptiveStates(rule);
    const draw = new Draw("adaptive at once");
    const start = sizes.map((size) => Array.from({ length: size }, () => draw.uniform()));
    const make = () => ({
      steps: tensor(sizes.map((_, i) => i)),
      factors: zeros([sizes.length, 2]),
      entries: start.map((values, index) => ({
        param: tensor(Float32Array.from(values)),
        grad: tensor(Float32Array.from(values, (v) => Math.sin(9 * v))),
        states: Array.from({ length: states }, (_, s) =>
          // Mean squares above the square of the mean, as they always are.
          tensor(Float32Array.from(values, (v) => s === 0 ? 1 + v : 0.5 * v))),
        index,
      })),
    });
    const [together, alone] = [make(), make()];
    using hyper = tensor([...HYPER[rule.name]]);
    using active = tensor(sizes.map(() => 1));
    const { stats } = gpu().queue;
    const before = stats.dispatches;
    asHardware(() => adaptiveStep(rule, together.entries, { hyper, active, ...together }));
    const dispatches = stats.dispatches - before;
    const counts = rule.name === "rmsprop" ? 0 : 1;
    const room = gpu().limits.maxStorageBuffersPerShaderStage - 1 - counts;
    const most = Math.min(8, Math.floor(room / (2 + states)));
    // Whole fours apart from the others, and nothing for the empty one.
    const fours = sizes.filter((n) => n > 0 && n % 4 === 0).length;
    const groups = [fours, sizes.filter((n) => n % 4 !== 0).length];
    assertEquals(dispatches, groups.reduce((n, count) => n + Math.ceil(count / most), counts));
    adaptiveStep(rule, alone.entries, { hyper, active, ...alone });
    const params = await readAll([...together.entries, ...alone.entries].map((e) => e.param));
    assertEquals(params.slice(0, sizes.length), params.slice(sizes.length));
    assertNotEquals([...params[3]!], start[3]!.map(Math.fround));
    const [left, right] = [together, alone].map((o) => o.entries.flatMap((e) => [...e.states]));
    const kept = await readAll([...left!, ...right!]);
    assertEquals(kept.slice(0, left!.length), kept.slice(left!.length), `${rule.name} states`);
    for (const { steps, factors, entries } of [together, alone]) {
      if (counts) assertEquals([...await steps.data()], sizes.map((_, i) => i + 1));
      for (const t of [steps, factors, ...entries.flatMap((e) => [e.param, e.grad, ...e.states])]) {
        t.dispose();
      }
    }
  }
});

Deno.test("adaptiveStep() gives an element the same bits among four and alone", async () => {
  for (const rule of ALL_RULES) {
    const make = (size: number) => {
      const draw = new Draw("adaptive fours");
      const values = Array.from({ length: size }, () => draw.uniform());
      return {
        param: tensor(values),
        grad: tensor(values.map((v) => Math.sin(9 * v))),
        states: Array.from(
          { length: adaptiveStates(rule) },
          (_, s) => tensor(values.map((v) => s === 0 ? 1 + v : 0.5 * v)),
        ),
        index: 0,
      };
    };
    const results = [];
    for (const size of [260, 261]) {
      const entry = make(size);
      using hyper = tensor([...HYPER[rule.name]]);
      using active = tensor([1]);
      using steps = tensor([3]);
      using factors = zeros([1, 2]);
      adaptiveStep(rule, [entry], { hyper, active, steps, factors });
      const data = await readAll([entry.param, ...entry.states]);
      results.push(data.map((d) => [...d].slice(0, 260)));
      for (const t of [entry.param, entry.grad, ...entry.states]) t.dispose();
    }
    assertEquals(results[0], results[1], rule.name);
  }
});

Deno.test("adaptiveStep() that may skip does what it does without, or nothing", async () => {
  const cases = ALL_RULES.flatMap((rule) =>
    // One by one, and by fours.
    [3, 8].map((size) => ({ rule, size }))
  );
  for (const { rule, size } of cases) {
    const values = Array.from({ length: size }, (_, i) => [0.5, -1, 2][i % 3]!);
    const state = (s: number) => values.map((_, i) => 1 + i + (i === size - 1 ? s : 0));
    const make = () => ({
      param: tensor(values),
      grad: tensor(values.map((v) => Math.sin(9 * v))),
      states: Array.from({ length: adaptiveStates(rule) }, (_, s) => tensor(state(s))),
      index: 0,
    });
    const step = async (skip?: number) => {
      const entry = make();
      using hyper = tensor([...HYPER[rule.name]]);
      using active = tensor([1]);
      using steps = tensor([3]);
      using factors = zeros([1, 2]);
      using found = tensor([skip ?? 0], { dtype: "u32" });
      const numbers = {
        hyper,
        active,
        steps,
        factors,
        ...skip === undefined ? {} : { skip: found },
      };
      adaptiveStep(rule, [entry], numbers);
      const all = [entry.param, ...entry.states, steps];
      const data = await readAll(all);
      for (const t of [...all.slice(0, -1), entry.grad]) t.dispose();
      return data;
    };
    const plain = await step();
    assertNotEquals([...plain[0]!], values);
    assertEquals(await step(0), plain, rule.name);
    const [param, ...rest] = await step(1);
    assertEquals([...param!], values, rule.name);
    const before = [...make().states.map((_, s) => state(s)), [3]];
    assertEquals(rest.map((v) => [...v]), before, rule.name);
  }
});

Deno.test("adaptiveStep() counts steps only where a step is taken", async () => {
  using hyper = tensor([...HYPER.adagrad]);
  using active = tensor([0, 1]);
  using steps = tensor([4, 4]);
  using factors = zeros([2, 2]);
  adaptiveStep({ name: "adagrad" }, [], { hyper, active, steps, factors });
  assertEquals(await steps.array(), [4, 5]);
});

Deno.test("adaptiveStep() throws for arrays its kernel would misread, and changes nothing", async () => {
  const rule = { name: "rmsprop", centered: false, momentum: false } as const;
  using hyper = tensor([...HYPER.rmsprop]);
  using square = tensor([[1, 2], [3, 4]]);
  using turned = square.transpose(0, 1);
  using four = zeros([4]);
  using five = zeros([5]);
  using short = tensor([0.5, 0]);
  const step = (param: typeof four, state: typeof four, grad = param) =>
    adaptiveStep(rule, [{ param, grad, states: [state], index: 0 }], { hyper });
  assertThrows(() => step(turned, square), TypeError, "must be contiguous");
  assertThrows(() => step(four, four, five), TypeError, "[5]");
  assertThrows(() => step(four, five), TypeError, "must be f32 of one shape");
  assertThrows(
    () => adaptiveStep(rule, [], { hyper: short }),
    TypeError,
    `the ${ADAPTIVE_HYPER.rmsprop.length} numbers lr, alpha`,
  );
  assertThrows(
    () => adaptiveStep({ name: "adagrad" }, [], { hyper: four }),
    TypeError,
    "they must be f32 [n], [n] and [n, 2]",
  );
  assertThrows(
    () => adaptiveStep(rule, [{ param: four, grad: four, states: [], index: 0 }], { hyper }),
    TypeError,
    "Cannot step by rmsprop with 0 states: it has 1",
  );
  assertEquals(await square.array(), [[1, 2], [3, 4]]);
});
