import { assertEquals, assertThrows } from "@std/assert";
import { init, sgdStep, tensor, zeros } from "../../engine/mod.ts";

await init();

/** lr 0.5 and nothing else. */
function hyper() {
  return tensor([0.5, 0, 0, 0, 0, 0]);
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
  assertThrows(() => sgdStep([{ param: inside, grad: four }], h), TypeError, refused);
  assertThrows(() => sgdStep([{ param: four, grad: five }], h), TypeError, "[5]");
  assertThrows(() => sgdStep([{ param: half, grad: half }], h), TypeError, "f16");
  assertThrows(() => sgdStep([{ param: four, grad: four, buffer: five }], h), TypeError, "[5]");
  assertThrows(() => sgdStep([{ param: four, grad: four }], short), TypeError, "6 numbers");
  const mixed = [{ param: four, grad: four, buffer: zeros([4]) }, { param: row, grad: row }];
  assertThrows(() => sgdStep(mixed, h), TypeError, "for all of them or for none");
  mixed[0]!.buffer!.dispose();
  assertEquals([...await square.data(), ...await row.data()], [1, 2, 3, 4, ...Array(8).fill(1)]);
});
