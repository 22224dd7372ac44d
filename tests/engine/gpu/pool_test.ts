import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { tensor, zeros } from "../../../engine/creation.ts";
import { gpu, init } from "../../../engine/gpu/device.ts";
import { BufferPool, mib, sizeClass } from "../../../engine/gpu/pool.ts";
import { readAll } from "../../../engine/read.ts";
import { scope } from "../../../engine/scope.ts";

await init();

function newPool(): BufferPool {
  return new BufferPool(gpu().device, gpu().limits);
}

Deno.test("sizeClass() rounds up to quarters of a power of two", () => {
  const most = 1 << 30;
  const cases = [[0, 256], [1, 256], [256, 256], [257, 512], [1000, 1024], [1025, 1280], [
    5000,
    5120,
  ]];
  for (const [bytes, want] of cases) assertEquals(sizeClass(bytes!, most), want, `${bytes}`);
  for (let bytes = 1024; bytes < 1e8; bytes = Math.ceil(bytes * 1.07)) {
    const size = sizeClass(bytes, most);
    assert(size >= bytes && size <= bytes * 1.25 && size % 4 === 0, `${bytes} gives ${size}`);
    assertEquals(sizeClass(size, most), size);
  }
  assertEquals(sizeClass(1000, 999), 996, "never over the adapter's largest buffer");
});

Deno.test("a graph's buffers have their own sizes and come back when it is disposed", () => {
  const pool = newPool();
  const [a, b] = [pool.takeForGraph(256 * 21), pool.takeForGraph(256 * 21)];
  assertEquals(pool.info().liveBytes, 2 * 256 * 21);
  b!.held = true;
  pool.give(b!);
  assertEquals(pool.info().liveBytes, 2 * 256 * 21, "the graph still writes to it");
  a!.held = true;
  pool.giveAll([a!, b!]);
  assertEquals(pool.info().liveBytes, 256 * 21, "a tensor holds one");
  pool.give(a!);
  assertEquals(pool.info(), {
    liveBytes: 0,
    pooledBytes: 2 * 256 * 21,
    peakBytes: 2 * 256 * 21,
    buffers: 0,
  });
  assertEquals(pool.takeForGraph(256 * 21).id, a!.id);
});

Deno.test("a buffer given back is taken again by its size class alone", () => {
  const pool = newPool();
  const a = pool.take(1000, { label: "a" });
  assertEquals(pool.info(), { liveBytes: 1024, pooledBytes: 0, peakBytes: 1024, buffers: 1 });
  pool.give(a);
  assertEquals(pool.info(), { liveBytes: 0, pooledBytes: 1024, peakBytes: 1024, buffers: 0 });
  const other = pool.take(1100, { label: "other" });
  const again = pool.take(770, { label: "again" });
  assertNotEquals(other.id, a.id);
  assertEquals(again.id, a.id);
  assertEquals(pool.info().pooledBytes, 0);
});

Deno.test("free buffers are taken in one order, in whatever order they came back", () => {
  const pool = newPool();
  const taken = [0, 1, 2, 3, 4].map((i) => pool.take(256, { label: `${i}` }));
  const ids = taken.map(({ id }) => id);
  for (const order of [[4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [2, 0, 4, 1, 3]]) {
    for (const i of order) pool.give(taken[i]!);
    assertEquals(ids.map(() => pool.take(256, { label: "again" }).id), ids, `${order}`);
  }
});

Deno.test("a host write never gets a buffer that recorded work still uses", () => {
  const pool = newPool();
  const used = pool.take(256, { label: "used" });
  const idle = pool.take(256, { label: "idle" });
  used.lastBatch = pool.batch;
  pool.give(idle);
  pool.give(used);
  const written = pool.take(256, { label: "written", hostWrite: true });
  assertEquals(written.id, idle.id);
  const fresh = pool.take(256, { label: "fresh", hostWrite: true });
  assert(fresh.id !== used.id && fresh.id !== idle.id);
  pool.give(fresh);
  pool.give(used);
  assertEquals(pool.take(256, { label: "output" }).id, used.id, "for output it is fine");
  pool.give(used);
  pool.batch++;
  assertEquals(pool.take(256, { label: "later", hostWrite: true }).id, used.id);
});

Deno.test("uploads between recorded ops change nothing that was recorded", async () => {
  const results = scope(() =>
    Array.from({ length: 50 }, (_, i) => {
      const x = tensor([i, i + 0.5]);
      const y = x.add(100);
      x.dispose(); // its buffer is free while the add is only recorded
      const z = tensor([-i, -i]);
      const sum = y.add(z);
      z.dispose();
      y.dispose();
      return sum;
    })
  );
  const data = await readAll(results);
  data.forEach((d, i) => assertEquals([...d], [100, 100.5], `round ${i}`));
});

Deno.test("memory is reused within a batch", () => {
  const { pool, queue } = gpu();
  queue.flush();
  const before = pool.info();
  scope(() => {
    let x = zeros([1000]);
    for (let i = 0; i < 100; i++) {
      const next = x.add(1);
      x.dispose();
      x = next;
    }
  });
  const after = pool.info();
  assert(after.pooledBytes - before.pooledBytes <= 2 * 4096, "two buffers are enough");
});

Deno.test("trim() destroys what nobody took for a while, and tells", () => {
  const pool = newPool();
  const gone: number[] = [];
  pool.onDestroy((id) => gone.push(id));
  const [old, recent] = [pool.take(256, { label: "old" }), pool.take(256, { label: "recent" })];
  pool.batch = 100;
  recent.lastBatch = 95;
  pool.give(old);
  pool.give(recent);
  pool.trim(64);
  assertEquals(gone, [old.id]);
  assertEquals(pool.info().pooledBytes, 256);
  pool.trim(3);
  assertEquals(gone, [old.id, recent.id]);
  assertEquals(pool.info(), { liveBytes: 0, pooledBytes: 0, peakBytes: 512, buffers: 0 });
});

Deno.test("take() names what does not fit into the largest buffer", () => {
  const pool = new BufferPool(gpu().device, { ...gpu().limits, maxBufferSize: 1 << 20 });
  assertEquals(pool.take(1 << 20, { label: "fits" }).bytes, 1 << 20);
  assertThrows(
    () => pool.take((1 << 20) + 1, { label: "weights" }),
    RangeError,
    "Cannot allocate weights of 1.0 MiB: this adapter's largest buffer has 1.0 MiB",
  );
});

Deno.test("mib() chooses a unit", () => {
  assertEquals([0, 1023, 1024, 1536, 1 << 20, 3.25 * (1 << 20)].map(mib), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "1.0 MiB",
    "3.3 MiB",
  ]);
});
