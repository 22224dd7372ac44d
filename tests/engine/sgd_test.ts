import { assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import { init, readAll, sgdStep, tensor, zeros } from "../../engine/mod.ts";
import { asHardware } from "../helpers/as_hardware.ts";
import { Draw } from "../helpers/draw.ts";

await init();

/** lr 0.5 and nothing else. */
function hyper() {
  return tensor([0.5, 0, 0, 0, 0]);
}

Deno.test("sgdStep() updates windows that start at an aligned place", async () => {
  using h = hyper();
  using whole = tensor(new Float32Array(256).fill(1));
  using window = whole.narrow(0, 128, 64);
  using grad = tensor(new Float32Array(64).fill(1));
  sgdStep([{ param: window, grad }], h);
  const want = new Float32Array(256).fill(1).fill(0.5, 128, 192);
  assertEquals(await whole.data(), want);
});

Deno.test("sgdStep() gives the same bits to many parameters at once and to each alone", async () => {
  // Sizes around the 256 elements a workgroup owns; more than one dispatch takes.
  const sizes = [
    1,
    2,
    255,
    256,
    257,
    511,
    513,
    1000,
    3,
    64,
    300,
    256,
    7,
    1,
    1025,
    5,
    33,
    512,
    9,
    4,
  ];
  for (const momentum of [0, 0.9]) {
    const draw = new Draw("sgd at once");
    const start = sizes.map((size) => Array.from({ length: size }, () => draw.uniform()));
    const make = () =>
      start.map((values) => ({
        param: tensor(values),
        grad: tensor(values.map((v) => Math.sin(9 * v))),
        buffer: momentum > 0 ? tensor(values.map((v) => v - 0.5)) : undefined,
      }));
    const [together, alone] = [make(), make()];
    using h = tensor([0.1, momentum, 0.25, 0.01, 0]);
    const { stats } = gpu().queue;
    const before = stats.dispatches;
    asHardware(() => sgdStep(together, h));
    const dispatches = stats.dispatches - before;
    for (const entry of alone) sgdStep([entry], h);
    const room = gpu().limits.maxStorageBuffersPerShaderStage - 1;
    const most = Math.min(16, Math.floor(room / (momentum > 0 ? 3 : 2)));
    // Whole fours apart from the others.
    const fours = sizes.filter((size) => size % 4 === 0).length;
    const groups = [fours, sizes.length - fours];
    assertEquals(dispatches, groups.reduce((n, count) => n + Math.ceil(count / most), 0));
    const params = await readAll([...together, ...alone].map((e) => e.param));
    assertEquals(params.slice(0, sizes.length), params.slice(sizes.length));
    assertNotEquals([...params[5]!], start[5]!.map(Math.fround));
    const buffers = await readAll([...together, ...alone].flatMap((e) => e.buffer ?? []));
    const half = buffers.length / 2;
    assertEquals(buffers.slice(0, half), buffers.slice(half), "momentum");
    for (const e of [...together, ...alone]) {
      for (const t of [e.param, e.grad, e.buffer]) t?.dispose();
    }
  }
});

Deno.test("sgdStep() gives an element the same bits among four and alone", async () => {
  using h = tensor([0.1, 0.9, 0.25, 0.01, 1]);
  const results = [];
  for (const size of [260, 261]) {
    const draw = new Draw("sgd fours");
    const values = Array.from({ length: size }, () => draw.uniform());
    using param = tensor(values);
    using grad = tensor(values.map((v) => Math.sin(9 * v)));
    using buffer = tensor(values.map((v) => v - 0.5));
    sgdStep([{ param, grad, buffer }], h);
    results.push((await readAll([param, buffer])).map((d) => [...d].slice(0, 260)));
  }
  assertEquals(results[0], results[1]);
});

Deno.test("sgdStep() that may skip moves parameter and momentum by the rule, or neither", async () => {
  using h = tensor([0.1, 0.5, 0, 0, 0]);
  for (const skips of [0, 1]) {
    // One by one, and by fours; with momentum, and without.
    for (const size of [3, 8]) {
      for (const momentum of [true, false]) {
        const start = Array.from({ length: size }, (_, i) => 1 + i % 3);
        const grads = start.map((v) => v + 3);
        using param = tensor(start);
        using grad = tensor(grads);
        using buffer = tensor(start.map((v) => v / 2));
        using found = tensor([skips], { dtype: "u32" });
        sgdStep([momentum ? { param, grad, buffer } : { param, grad }], h, { skip: found });
        // b = 0.5 b + g; p = p - 0.1 b.
        const moved = start.map((v, i) => momentum ? 0.25 * v + grads[i]! : grads[i]!);
        const [p, b] = await readAll([param, buffer]);
        assertEquals([...b!], skips || !momentum ? start.map((v) => v / 2) : moved);
        // Two roundings of numbers below 4.
        start.forEach((v, i) =>
          assertAlmostEquals(Number(p![i]), skips ? v : v - 0.1 * moved[i]!, 4 * 2 ** -23)
        );
      }
    }
  }
});

Deno.test("sgdStep() reads gradients of any layout", async () => {
  using h = hyper();
  using param = zeros([2, 2]);
  using grad = tensor([[0, 1, 2], [3, 4, 5]]);
  using corner = grad.narrow(1, 1, 2).transpose(0, 1);
  sgdStep([{ param, grad: corner }], h);
  assertEquals(await param.array(), [[-0.5, -2], [-1, -2.5]]);
});

Deno.test("sgdStep() throws for arrays its kernel would misread, and changes nothing", async () => {
  using h = hyper();
  using square = tensor([[1, 2], [3, 4]]);
  using turned = square.transpose(0, 1);
  using row = tensor(new Float32Array(8).fill(1));
  using inside = row.narrow(0, 1, 4);
  using four = zeros([4]);
  using five = zeros([5]);
  using half = zeros([4], { dtype: "f16" });
  using short = tensor([0.5, 0]);
  const refused = "must be contiguous";
  assertThrows(() => sgdStep([{ param: turned, grad: square }], h), TypeError, refused);
  // The gradient may lie anyhow, the parameter not, even where they are one tensor.
  assertThrows(() => sgdStep([{ param: turned, grad: turned }], h), TypeError, refused);
  assertThrows(() => sgdStep([{ param: inside, grad: four }], h), TypeError, refused);
  assertThrows(() => sgdStep([{ param: four, grad: five }], h), TypeError, "[5]");
  assertThrows(() => sgdStep([{ param: half, grad: half }], h), TypeError, "f16");
  assertThrows(() => sgdStep([{ param: four, grad: four, buffer: five }], h), TypeError, "[5]");
  assertThrows(() => sgdStep([{ param: four, grad: four }], short), TypeError, "5 numbers");
  const mixed = [{ param: four, grad: four, buffer: zeros([4]) }, { param: row, grad: row }];
  assertThrows(() => sgdStep(mixed, h), TypeError, "for all of them or for none");
  mixed[0]!.buffer!.dispose();
  assertEquals([...await square.data(), ...await row.data()], [1, 2, 3, 4, ...Array(8).fill(1)]);
});
