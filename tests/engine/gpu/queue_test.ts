import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DeviceArray, operand } from "../../../engine/array.ts";
import { noGrad } from "../../../engine/autograd.ts";
import { capture } from "../../../engine/capture.ts";
import { ones, randn, tensor, zeros } from "../../../engine/creation.ts";
import { GpuError } from "../../../engine/errors.ts";
import { setDebug } from "../../../engine/gpu/debug.ts";
import { gpu, init } from "../../../engine/gpu/device.ts";
import { type Kernel, kernel } from "../../../engine/kernels/kernel.ts";
import { readAll, synchronize } from "../../../engine/read.ts";
import { keep, scope } from "../../../engine/scope.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { wrapTensor } from "../../../engine/tensor_base.ts";

await init();

/** Size of the queue's uniform slab. */
const SLAB_BYTES = 1 << 18;

/** A kernel over one buffer. */
function kernelOf(name: string, body: string): Kernel {
  return kernel({
    name,
    buffers: [{ name: "y", access: "write", type: "f32" }],
    params: { value: "f32" },
    body,
  });
}

function launch(k: Kernel, y: DeviceArray, grid: [number, number, number] = [1, 1, 1]): void {
  gpu().queue.launch({
    kernel: k,
    buffers: [operand(y).binding],
    params: { value: 3 },
    grid,
    cost: { flops: 1e6, bytes: 2048 },
  });
}

Deno.test("a scope is one submit, without a readback", async () => {
  const { queue } = gpu();
  const [x, w] = [keep(randn([16, 8])), keep(randn([8, 4], { requiresGrad: true }))];
  await synchronize();
  const before = { ...queue.stats };
  scope(() => {
    for (let i = 0; i < 3; i++) scope(() => x.matmul(w).logSoftmax(1).mean().backward());
    noGrad(() => w.add_(w.grad!, { alpha: -0.1 }));
  });
  assertEquals(queue.pending, 0);
  assertEquals(queue.stats.submits - before.submits, 1);
  assertEquals(queue.stats.readbacks, before.readbacks);
  assert(queue.stats.dispatches - before.dispatches > 20);
  scope(() => {});
  await synchronize();
  assertEquals(queue.stats.submits - before.submits, 1, "nothing recorded, nothing submitted");
});

Deno.test("several tensors are read with one readback", async () => {
  const { stats } = gpu().queue;
  const before = stats.readbacks;
  const data = await readAll([
    ones([3]),
    zeros([0, 2]),
    tensor([true]),
    ones([5, 2]).slice(0, 1, 3),
  ]);
  assertEquals(data.map((d) => [...d]), [[1, 1, 1], [], [1], [1, 1, 1, 1]]);
  assertEquals(stats.readbacks - before, 1);
  assertEquals((await zeros([0]).data()).length, 0);
  assertEquals(stats.readbacks - before, 1, "nothing to read, no wait");
});

Deno.test("a read sees the values of its call, whatever is recorded while it waits", async () => {
  const x = ones([4]);
  const reading = x.data();
  scope(() => x.fill_(7));
  x.dispose();
  const other = zeros([4]);
  await synchronize();
  assertEquals([...await reading], [1, 1, 1, 1]);
  assertEquals(await other.array(), [0, 0, 0, 0]);
});

Deno.test("a batch larger than the uniform slab is cut without a change in order", async () => {
  const { slabAlign, stats } = gpu().queue;
  const x = zeros([3]);
  const before = stats.submits;
  // A launch takes `slabAlign` bytes or a multiple of them: 256 with Deno's own WebGPU, 16 with Dawn.
  const launches = 2 * SLAB_BYTES / slabAlign;
  for (let i = 0; i < launches; i++) x.add_(1);
  assert(stats.submits > before, "the slab never filled");
  assertEquals(await x.array(), [launches, launches, launches]);
});

Deno.test("bind groups do not grow without end, and work whose groups went is right", async () => {
  const { queue } = gpu();
  const lanes = 256 / 4;
  const x = zeros([17_000 * lanes]);
  // A window of its own for each.
  noGrad(() => {
    for (let i = 0; i < 17_000; i++) x.slice(0, i * lanes, i * lanes + 1).add_(i);
  });
  assert(queue.groups.size < 1 << 14, `${queue.groups.size} groups`);
  const data = await x.data();
  for (const i of [0, 1, 5000, 16_383, 16_384, 16_999]) assertEquals(data[i * lanes], i);
});

Deno.test("launch() checks grid, params and buffers before anything is recorded", () => {
  const { queue } = gpu();
  const y = DeviceArray.empty({ shape: [64], dtype: "f32" });
  const most = gpu().limits.maxComputeWorkgroupsPerDimension;
  const fill = kernelOf("fill_test", "  y[lid.x] = p.value;");
  queue.flush();
  assertThrows(
    () => launch(fill, y, [1, most + 1, 1]),
    RangeError,
    `Cannot dispatch fill_test over 1 x ${most + 1} x 1 workgroups: this adapter takes ${most} a ` +
      "dimension, so the op must fold its grid",
  );
  const good = { kernel: fill, buffers: [operand(y).binding], params: { value: 1 } };
  const rest = { grid: [1, 1, 1], cost: { flops: 0, bytes: 0 } } as const;
  assertThrows(
    () => queue.launch({ ...good, ...rest, params: {} }),
    Error,
    "Kernel fill_test needs a value for its param value",
  );
  assertThrows(
    () => queue.launch({ ...good, ...rest, buffers: [] }),
    Error,
    "Kernel fill_test binds 1 buffers, was given 0",
  );
  const counted = kernel({
    name: "count_test",
    buffers: [{ name: "y", access: "write", type: "f32" }],
    params: { count: "u32" },
    body: "  y[lid.x] = f32(p.count);",
  });
  for (const count of [2 ** 32, 1.5, -(2 ** 31) - 1, NaN]) {
    assertThrows(
      () => queue.launch({ ...good, ...rest, kernel: counted, params: { count } }),
      RangeError,
      `Cannot run count_test with count ${count}: it must be a whole number of 32 bits`,
    );
  }
  launch(fill, y, [0, 1, 1]); // an empty grid is no work
  assertEquals(queue.pending, 0);
  y.release();
});

Deno.test("a kernel that does not compile is named, with its text, at the next await", async () => {
  const y = DeviceArray.empty({ shape: [64], dtype: "f32" });
  launch(kernelOf("planted_syntax_error", "  y[lid.x] = nonsense;"), y);
  // Not at once: an error nobody waits for yet must not end the program.
  gpu().queue.flush();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const error = await assertRejects(() => ones([2]).data(), GpuError);
  assertEquals(error.label, "planted_syntax_error");
  assert(error.message.startsWith("Kernel planted_syntax_error does not compile: "), error.message);
  assert(/\n +\d+ +y\[lid\.x\] = nonsense;/.test(error.message), error.message);
  assertEquals(await ones([2]).array(), [1, 1], "the device works on");
  y.release();
});

Deno.test("a kernel that would read what it writes is refused by name, and nothing else is lost", async () => {
  const twice = kernel({
    name: "twice_test",
    buffers: [{ name: "x", access: "read", type: "f32" }, {
      name: "y",
      access: "write",
      type: "f32",
    }],
    params: { value: "f32" },
    body: "  y[lid.x] = x[lid.x];",
  });
  const other = ones([4]).add(1);
  const y = DeviceArray.empty({ shape: [64], dtype: "f32" }, "shared");
  assertThrows(
    () =>
      gpu().queue.launch({
        kernel: twice,
        buffers: [operand(y).binding, operand(y).binding],
        params: { value: 1 },
        grid: [1, 1, 1],
        cost: { flops: 0, bytes: 0 },
      }),
    TypeError,
    "Cannot run twice_test: it writes shared, which it is given twice",
  );
  assertEquals(await other.array(), [2, 2, 2, 2]);
  y.release();
});

Deno.test("what a failed kernel should have written stays unreadable, and so what is made of it", async () => {
  const spoiled = wrapTensor(DeviceArray.empty({ shape: [64], dtype: "f32" }));
  launch(kernelOf("planted_error", "  y[lid.x] = nonsense;"), spoiled.device);
  const early = spoiled.add(1); // before the failure is known
  // Flags of bad indices, which every read looks at, are in the same batch.
  const picked = spoiled.indexSelect(0, tensor([1], { dtype: "i32" }));
  const drawn = randn([2]);
  await assertRejects(() => spoiled.data(), GpuError, "planted_error");
  const late = spoiled.mul(2).sum();
  for (const t of [spoiled, early, picked, drawn, late, spoiled]) {
    await assertRejects(() => t.data(), GpuError, "planted_error");
  }
  const step = capture((x: Tensor) => ({ y: x.add(spoiled.narrow(0, 0, 2)) }));
  for (let i = 0; i < 3; i++) {
    const { y } = step(ones([2]));
    await assertRejects(() => y.data(), GpuError, "planted_error");
  }
  assertEquals(await ones([64]).add(1).sum().item(), 128, "the device works on");
  // Overwritten as a whole it is good again, as after loading weights.
  const whole = wrapTensor(spoiled.device.alias());
  whole.copy_(ones([64]));
  assertEquals(await spoiled.sum().item(), 64);
  const ids = tensor([1], { dtype: "i32" });
  assertEquals(await tensor([5, 6]).indexSelect(0, ids).array(), [6]);
  assert((await randn([3]).data()).every(Number.isFinite));
});

Deno.test("the first work after a full slab is lost with its own batch, not the one before", async () => {
  const { queue } = gpu();
  await synchronize();
  const x = ones([4]);
  const { submits } = queue.stats;
  let last = x.mul(1);
  while (queue.stats.submits === submits) {
    last.dispose();
    last = x.mul(2);
  }
  const spoiled = wrapTensor(DeviceArray.empty({ shape: [64], dtype: "f32" }));
  launch(kernelOf("planted_late_error", "  y[lid.x] = nonsense;"), spoiled.device);
  await assertRejects(() => spoiled.data(), GpuError, "planted_late_error");
  await assertRejects(() => last.data(), GpuError, "planted_late_error");
});

Deno.test("a submit that fails validation is named after a kernel of it", async () => {
  const y = DeviceArray.empty({ shape: [64], dtype: "f32" });
  launch(kernelOf("planted_destroyed", "  y[lid.x] = p.value;"), y);
  y.storage.pooled.buffer.destroy();
  const error = await assertRejects(() => synchronize(), GpuError);
  assertEquals(error.label, "planted_destroyed");
  assertEquals(await ones([2]).array(), [1, 1]);
  // Never given back to the pool: its buffer is gone.
});

Deno.test("the same kernel text is compiled once", () => {
  const { pipelines } = gpu();
  const body = "  y[lid.x] = p.value + 1.0;";
  const first = pipelines.get(kernelOf("cached", body));
  const size = pipelines.size;
  assertEquals(pipelines.get(kernelOf("cached", body)), first);
  assertEquals(pipelines.size, size);
  for (const n of [3, 5, 1000]) zeros([n]).add(n).exp(); // sizes and scalars are not in the text
  const after = pipelines.size;
  for (const n of [4, 7, 2000]) zeros([n]).add(-n).exp();
  assertEquals(pipelines.size, after);
});

Deno.test("LATHE_DEBUG=2 prints a line a dispatch, =3 each new shader's text", () => {
  const lines: string[] = [];
  const y = DeviceArray.empty({ shape: [64], dtype: "f32" });
  setDebug({ level: 2, write: (line) => lines.push(line) });
  try {
    const k = kernelOf("debugged", "  y[lid.x] = p.value * 2.0;");
    launch(k, y);
    launch(k, y, [1, 2, 1]);
    assertEquals(lines.length, 3, lines.join("\n"));
    assert(/^\[lathe\] compiled debugged in \d+\.\d ms$/.test(lines[0]!), lines[0]);
    const dispatch = /^\[lathe\] +\d+ debugged +1x1x1 +1\.00 MFLOP +2\.0 KiB +live \d+\.\d [KM]iB$/;
    assert(dispatch.test(lines[1]!), lines[1]);
    assert(lines[2]!.includes("1x2x1"));
    setDebug({ level: 3 });
    lines.length = 0;
    launch(kernelOf("debugged_text", "  y[lid.x] = p.value * 3.0;"), y);
    assert(
      lines[0]!.startsWith("[lathe] debugged_text\n// debugged_text\nstruct Params {"),
      lines[0],
    );
    setDebug({ level: 1 });
    lines.length = 0;
    launch(k, y);
    assertEquals(lines, []);
  } finally {
    setDebug({ level: 0, write: console.error });
  }
  y.release();
});
