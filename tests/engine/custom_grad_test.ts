/** Functions with gradients of their own. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  capture,
  CheckError,
  checkpoint,
  customGrad,
  type CustomResult,
  gradcheck,
  init,
  nn,
  noGrad,
  ones,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { memory } from "../../engine/mod.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

await init();

/** What goes forward unchanged and comes back reversed: domain-adversarial training's layer. */
const reversed = customGrad((x) => ({ value: x!, gradient: (dy) => dy.neg() }));

/** exp with the rule that its ops have, too. */
const exponential = customGrad((x) => {
  const y = x!.exp();
  return { value: y, gradient: (dy) => dy.mul(y) };
});

/** a · b, and nothing for the second. */
const halfProduct = customGrad((a, b) => ({
  value: a!.mul(b!),
  gradient: (dy) => [dy.mul(b!), null],
}));

Deno.test("customGrad() goes back by its own rule", async () => {
  const x = tensor([1, 2, 3], { requiresGrad: true });
  const y = reversed(x);
  assertEquals(await y.detach().array(), [1, 2, 3]);
  y.mul(tensor([1, 10, 100])).sum().backward();
  assertEquals(await x.grad!.array(), [-1, -10, -100]);
  x.grad = null;
  // Beside a path of ops, both count.
  reversed(x.square()).add(x).sum().backward();
  assertEquals(await x.grad!.array(), [-1, -3, -5]);
});

Deno.test("customGrad() gives nothing to an input whose gradient is null, or that asks for none", async () => {
  const [a, b] = [tensor([1, 2], { requiresGrad: true }), tensor([3, 4], { requiresGrad: true })];
  halfProduct(a, b).sum().backward();
  assertEquals(await a.grad!.array(), [3, 4]);
  assertEquals(b.grad, null);
  assertEquals(halfProduct(a.detach(), b.detach()).requiresGrad, false);
  assertEquals(noGrad(() => halfProduct(a, b)).requiresGrad, false);
});

Deno.test("gradcheck() finds a rule that is not the derivative", async () => {
  const x = tensor([0.5, -1, 2], { requiresGrad: true });
  await gradcheck((t) => exponential(t!).mul(2), [x]);
  await assertRejects(() => gradcheck((t) => reversed(t!), [x]), CheckError, "differences");
});

Deno.test("customGrad() in captured and recomputed steps gives the same bits, and leaves nothing", async () => {
  const run = async (how: "plain" | "captured" | "checkpoint") => {
    const w = tensor([[0.5, -0.25], [1, 2]], { requiresGrad: true });
    const optimizer = new nn.optim.SGD([w], { lr: 0.1 });
    const forward = (x: Tensor) => exponential(reversed(x.matmul(w)).mul(0.1));
    const body = (x: Tensor) => {
      optimizer.zeroGrad();
      const y = how === "checkpoint" ? checkpoint((t) => forward(t!), x) : forward(x);
      y.sum().backward();
      optimizer.step();
    };
    const step = how === "captured" ? capture(body) : (x: Tensor) => scope(() => body(x));
    const x = ones([3, 2]);
    for (let i = 0; i < 3; i++) step(x);
    await synchronize();
    const { liveBytes } = memory();
    for (let i = 0; i < 3; i++) step(x);
    assertNothingLeft(liveBytes, how);
    return [...await w.data()];
  };
  const plain = await run("plain");
  assertEquals(await run("captured"), plain);
  assertEquals(await run("checkpoint"), plain);
});

Deno.test("customGrad() says what it must be given", async () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const wrong = (result: unknown) => customGrad(() => result as CustomResult);
  assertThrows(
    () => customGrad(3 as never),
    TypeError,
    "Cannot make a function of 3: write customGrad(",
  );
  assertThrows(
    () => wrong(x)(x),
    TypeError,
    "the function must give its value and gradient, as in customGrad(",
  );
  assertThrows(
    () => halfProduct(x, 3 as unknown as Tensor),
    TypeError,
    "Cannot customGrad with 3: it must be a tensor",
  );
  const whole = tensor([1], { dtype: "i32" });
  assertThrows(
    () => wrong({ value: whole, gradient: () => [] })(x),
    TypeError,
    "Cannot take a gradient through a value of dtype i32: it must be a float",
  );
  const back = (gradient: unknown) => () =>
    customGrad((t) => ({ value: t!.sum(), gradient: () => gradient as Tensor }))(x).backward();
  assertThrows(
    back([x, x]),
    TypeError,
    "its gradient must give a list of 1, a tensor or null for each",
  );
  assertThrows(
    back(ones([3])),
    TypeError,
    "Cannot go back through customGrad with a tensor [3] for input 0: it must be a float tensor [2], or",
  );
  const [values] = await readAll([x]);
  assertEquals([...values!], [1, 2]);
});
