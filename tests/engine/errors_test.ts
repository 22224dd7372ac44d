/** Messages, word for word: a name, a fact, what would be right. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as lathe from "../../engine/mod.ts";
import { conv2d, linear, maxPool2d } from "../../engine/functions.ts";
import { crossEntropy } from "../../engine/functions_loss.ts";
import { gpu, withoutAdapter } from "../../engine/gpu/device.ts";
import { ROOT } from "../helpers/source.ts";

const { tensor, zeros, ones, arange, cat, randint } = lathe;
const i32 = { dtype: "i32" } as const;

/** What fails, its class, its message. */
const CASES: [() => unknown, typeof Error, string][] = [
  [
    () => zeros([8, 64]).matmul(zeros([32, 16])),
    TypeError,
    "Cannot matmul [8, 64] by [32, 16]: inner sizes 64 and 32 must be equal",
  ],
  [
    () => zeros([]).matmul(zeros([2])),
    TypeError,
    "Cannot matmul [] by [2]: scalars have no inner size; use mul",
  ],
  [
    () => zeros([2, 2]).matmul(zeros([2, 2], i32)),
    TypeError,
    "Cannot matmul dtypes f32 and i32: all must be the same float",
  ],
  [
    () => zeros([3, 2, 2]).matmul(zeros([2, 2, 2])),
    TypeError,
    "Cannot matmul batches [3] with [2]: sizes 3 and 2 in dimension -1 must be equal, or one of them 1",
  ],
  [
    () => zeros([2, 3]).add(zeros([2])),
    TypeError,
    "Cannot add [2, 3] with [2]: sizes 3 and 2 in dimension -1 must be equal, or one of them 1",
  ],
  [
    () => zeros([2, 3]).sum(2),
    RangeError,
    "Cannot sum along dimension 2: a tensor of rank 2 has dimensions -2 to 1",
  ],
  [
    () => zeros([2, 3]).sum([0, -2]),
    RangeError,
    "Cannot sum along dimension 0 twice: name each dimension once",
  ],
  [
    () => zeros([2, 0]).max(1),
    RangeError,
    "Cannot take the max of [2, 0]: it has no elements there",
  ],
  [
    () => zeros([2], i32).mean(),
    TypeError,
    'Cannot take the mean of dtype i32: it must be a float, so call .to("f32") first',
  ],
  [
    () => zeros([2, 6]).reshape(5, -1),
    TypeError,
    "Cannot reshape [2, 6] to [5, -1]: 12 elements must stay 12, and -1 stands for one size only",
  ],
  [
    () => zeros([2, 3]).permute(0, 0),
    TypeError,
    "Cannot permute [2, 3] by [0, 0]: name each of its 2 dimensions once",
  ],
  [
    () => zeros([2, 3]).expand(4, 3),
    TypeError,
    "Cannot expand [2, 3] to [4, 3]: only dimensions of size 1 repeat",
  ],
  [
    () => zeros([3]).expand(-1, 3),
    TypeError,
    "Cannot expand [3] to [-1, 3]: only dimensions of size 1 repeat",
  ],
  [
    () => zeros([5]).narrow(0, 3, 4),
    RangeError,
    "Cannot slice dimension 0 of [5] from 3 to 7: the range must lie within 0 to 5",
  ],
  [
    () => zeros([5]).slice(0, 0, 5, 0),
    RangeError,
    "Cannot slice with step 0: it must be a whole number of at least 1",
  ],
  [
    () => cat([zeros([2, 3]), zeros([2, 4])]),
    TypeError,
    "Cannot cat [2, 3] f32 with [2, 4] f32 along dimension 0: dtypes and all other sizes must be equal",
  ],
  [
    () => zeros([4]).topk(5),
    RangeError,
    "Cannot take the top 5 of [4]: k must be a whole number from 1 to 4",
  ],
  [
    () => ones([2]).where(zeros([2]), zeros([2])),
    TypeError,
    "Cannot choose by a condition of dtype f32: it must be bool",
  ],
  [
    () => zeros([2, 3], i32).softmax(1),
    TypeError,
    "Cannot softmax dtype i32: it must be a float",
  ],
  [
    () => linear(zeros([4, 6]), zeros([3, 5])),
    TypeError,
    "Cannot apply linear weight [3, 5] to [4, 6]: the input's last size must be the weight's second",
  ],
  [
    () => linear(zeros([4, 6]), zeros([3, 6]), zeros([2])),
    TypeError,
    "Cannot add bias [2] to 3 features: it must be [3]",
  ],
  [
    () => conv2d(zeros([1, 3, 8, 8]), zeros([4, 2, 3, 3])),
    TypeError,
    "Cannot conv2d [1, 3, 8, 8] with weight [4, 2, 3, 3] in 1 groups: the weight takes 2 input " +
    "channels, the input has 3, and 4 output channels must divide into the groups",
  ],
  [
    () => conv2d(zeros([1, 1, 2, 2]), zeros([1, 1, 3, 3])),
    RangeError,
    "Cannot conv2d [1, 1, 2, 2] with weight [1, 1, 3, 3]: the padded input is smaller than the kernel",
  ],
  [
    () => maxPool2d(zeros([1, 1, 4, 4]), 2, { padding: 2 }),
    RangeError,
    "Cannot maxPool2d with padding [2, 2]: it may be at most half the kernel [2, 2]",
  ],
  [
    () => crossEntropy(zeros([2, 3]), zeros([3], i32)),
    TypeError,
    "Cannot take cross entropy of [2, 3] and [3] i32: targets must be class ids [2] in i32 or u32, " +
    "or probabilities [2, 3]",
  ],
  [
    () => tensor([1, 2, 3], { shape: [2, 2] }),
    TypeError,
    "Cannot make a tensor [2, 2] from 3 elements: it needs 4",
  ],
  [
    () => tensor([[1, 2], [3]]),
    TypeError,
    "Cannot make a tensor from ragged arrays: the first elements have shape [2, 2] and others differ",
  ],
  [
    () => zeros([2, -1]),
    TypeError,
    "Cannot make a tensor [2, -1]: sizes must be whole numbers >= 0",
  ],
  [
    () => arange(0, 5, { step: -1 }),
    RangeError,
    "Cannot count from 0 to 5 by -1: the step must lead to the end",
  ],
  [
    () => randint(3, 3, { shape: [1] }),
    RangeError,
    "Cannot draw from 3 to 3: high must be above low",
  ],
  [
    () => zeros([2], { dtype: "i32", requiresGrad: true }),
    TypeError,
    "Cannot require a gradient of dtype i32: it must be a float",
  ],
  [
    () => zeros([2]).backward(),
    TypeError,
    "Cannot run backward from a tensor that requires no gradient: it was made from tensors without " +
    "requiresGrad, or inside noGrad()",
  ],
  [
    () => zeros([2], { requiresGrad: true }).mul(2).backward(),
    TypeError,
    "Cannot run backward from [2] without a seed: reduce it to one element or pass a gradient of its " +
    "shape",
  ],
  [
    () => zeros([2], { requiresGrad: true }).mul(2).backward(zeros([3])),
    TypeError,
    "Cannot seed [2] with [3]: the shapes must be equal",
  ],
  [
    () => {
      const y = ones([2], { requiresGrad: true }).exp().sum();
      y.backward();
      y.backward();
    },
    Error,
    "Cannot run backward through exp a second time: its saved tensors were freed; call the first " +
    "backward with { retainGraph: true }",
  ],
  [
    () => {
      const x = ones([2, 3], { requiresGrad: true });
      const y = x.square().sum();
      lathe.noGrad(() => x.zero_());
      y.backward();
    },
    Error,
    "Cannot run backward through square: a tensor [2, 3] it saved was changed in place; change it " +
    "after backward, or clone() it first",
  ],
  [
    () => zeros([2], { requiresGrad: true }).add_(1),
    TypeError,
    "Cannot add_ a tensor that requires a gradient: do it inside noGrad()",
  ],
  [
    () => lathe.scope(() => Promise.resolve()),
    TypeError,
    "Cannot scope an async function: its tensors would be freed at the first await; return tensors " +
    "from the scope and read them after it",
  ],
  [
    () => lathe.manualSeed(-1),
    RangeError,
    "Cannot use -1 as the generator's seed: it must be a whole number from 0 to 2^53 - 1",
  ],
];

Deno.test({
  name: "a tensor before init() says what to call",
  // Under `deno task test:dawn` the GPU is open before any test.
  ignore: isOpen(),
  fn: () => {
    assertThrows(
      () => zeros([1]),
      lathe.NoAdapterError,
      "The GPU is not open: call `await init()` before the first tensor",
    );
  },
});

function isOpen(): boolean {
  try {
    return gpu() !== undefined;
  } catch {
    return false;
  }
}

Deno.test("errors have their class and their words", async () => {
  await lathe.init();
  for (const [fn, kind, message] of CASES) {
    const error = assertThrows(fn) as Error;
    assertEquals(error.message, message);
    assertEquals(error.constructor, kind, message);
  }
});

Deno.test("a failed op allocates nothing", async () => {
  await lathe.init();
  const [a, b] = [zeros([8, 64]), zeros([32, 16])];
  await lathe.synchronize();
  const { buffers } = lathe.memory();
  assertThrows(() => a.matmul(b));
  assertThrows(() => a.add(b));
  assertEquals(lathe.memory().buffers, buffers);
});

Deno.test("item() wants one element", async () => {
  await lathe.init();
  const error = await zeros([2]).item().catch((e) => e);
  assertEquals(error.message, "Cannot take the item of [2]: it must have one element");
  assertEquals(await ones([1, 1]).item(), 1);
});

Deno.test("messages are sentences without a final period", () => {
  for (const [, , message] of CASES) {
    assert(/^[A-Z][^\n]*[^.\n]$/.test(message), message);
    assert(!/n't|'re /.test(message), `contraction: ${message}`);
  }
});

Deno.test("on a page without an adapter init() says what to do there", () => {
  const found = { api: true, page: true, secure: true };
  assert(/^No WebGPU adapter was found: turn on hardware/.test(withoutAdapter(found)));
  assert(/take a current Chrome/.test(withoutAdapter({ ...found, api: false })));
  // Without https there is no navigator.gpu either.
  assert(/over https/.test(withoutAdapter({ ...found, api: false, secure: false })));
});

Deno.test("without an adapter init() says what to install", async () => {
  const code = `import { init } from "${new URL("engine/mod.ts", ROOT).href}";
    Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => null } });
    await init().catch((error) => console.log(error.name, error.message));`;
  const { stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      `data:application/typescript,${encodeURIComponent(code)}`,
    ],
  }).output();
  assertEquals(
    new TextDecoder().decode(stdout),
    "NoAdapterError No WebGPU adapter was found: install a Vulkan driver (`deno task doctor` says how; " +
      "Debian and Ubuntu: apt install mesa-vulkan-drivers)\n",
    new TextDecoder().decode(stderr),
  );
});
