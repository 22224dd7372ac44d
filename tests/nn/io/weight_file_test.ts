import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { encodeSafetensors } from "../../../nn/io/safetensors_format.ts";
import { openSafetensors, openTorch, WeightFile } from "../../../nn/io/weight_file.ts";
import { ordered, torchStream, torchTensor, torchZip } from "../../helpers/torch_file.ts";
import { le } from "../../helpers/zip_file.ts";

await init();

async function withFile(bytes: Uint8Array, body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    await body(path);
  } finally {
    await Deno.remove(path);
  }
}

/** Bytes that are read from files meanwhile. */
async function countRead(body: () => Promise<void>): Promise<number> {
  const { prototype } = Deno.FsFile, { readSync } = prototype;
  let total = 0;
  prototype.readSync = function (part) {
    const count = readSync.call(this, part);
    total += count ?? 0;
    return count;
  };
  try {
    await body();
  } finally {
    prototype.readSync = readSync;
  }
  return total;
}

const GRID = Float32Array.from({ length: 12 }, (_, i) => i);

Deno.test("openSafetensors() lists and reads tensors and rows", async () => {
  const bytes = encodeSafetensors({
    grid: { dtype: "F32", shape: [4, 3], data: GRID },
    half: { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3f80, 0xc000) },
    one: { dtype: "I64", shape: [], data: BigInt64Array.of(7n) },
    none: { dtype: "F32", shape: [3, 0], data: new Float32Array(0) },
    packed: { dtype: "F4", shape: [2, 1], data: new Uint8Array(1) },
  }, { format: "pt" });
  await withFile(bytes, async (path) => {
    using file = openSafetensors(path);
    assertEquals(file.names.toSorted(), ["grid", "half", "none", "one", "packed"]);
    assertEquals(file.metadata, { format: "pt" });
    assertEquals(file.info("grid"), { dtype: "F32", shape: [4, 3], byteLength: 48 });
    assertEquals(await (await file.tensor("grid")).array(), [[0, 1, 2], [3, 4, 5], [6, 7, 8], [
      9,
      10,
      11,
    ]]);
    assertEquals(await (await file.slice("grid", { start: 1, end: 3 })).array(), [
      [3, 4, 5],
      [6, 7, 8],
    ]);
    assertEquals(await (await file.slice("grid", { start: 3 })).array(), [[9, 10, 11]]);
    assertEquals((await file.slice("grid", { start: 2, end: 2 })).shape, [0, 3]);
    assertEquals(await (await file.tensor("half")).array(), [1, -2]);
    assertEquals(await (await file.tensor("one")).array(), 7);
    assertEquals((await file.slice("none", { start: 1, end: 3 })).shape, [2, 0]);
    assertEquals((await file.array("half", { end: 1 })).data, Uint16Array.of(0x3f80));
    assertEquals((await file.array("packed")).data, new Uint8Array(1));
  });
});

Deno.test("a weight file says which tensor or rows there are not", async () => {
  const bytes = encodeSafetensors({
    grid: { dtype: "F32", shape: [4, 3], data: GRID },
    one: { dtype: "F32", shape: [], data: Float32Array.of(1) },
    packed: { dtype: "F4", shape: [2, 1], data: new Uint8Array(1) },
  });
  await withFile(bytes, async (path) => {
    using file = openSafetensors(path);
    assertThrows(() => file.info("x"), RangeError, `No tensor "x" in ${path}: it has 3, "grid"`);
    const slice = (name: string, start?: number, end?: number) => () =>
      file.slice(name, { start, end });
    await assertRejects(slice("grid", 2, 5), RangeError, 'Cannot slice "grid" to 5: it has 4 rows');
    await assertRejects(slice("grid", -1), RangeError, "counted from 0 upwards");
    await assertRejects(slice("grid", 3, 2), RangeError, "counted from 0 upwards");
    await assertRejects(slice("grid", 0.5), RangeError, "counted from 0 upwards");
    await assertRejects(slice("one", 0, 0), TypeError, 'Cannot slice "one": it is a scalar');
    await assertRejects(slice("packed", 1), RangeError, "no whole number of bytes");
    await Deno.truncate(path, bytes.length - 8);
    await assertRejects(() => file.tensor("grid"), FormatError, "as when it was opened");
  });
});

Deno.test("openTorch() reads tensors, views and rows of the zip form", async () => {
  const strided = { length: 12, shape: [3, 4], strides: [1, 3] };
  const value = new Map([[
    "state_dict",
    ordered({
      "module.grid": torchTensor("Float", { length: 12, shape: [4, 3], strides: [3, 1] }),
      "module.t": torchTensor("Float", strided),
      "module.part": torchTensor("Float", { length: 12, shape: [2], strides: [3], offset: 4 }),
      "module.one": torchTensor("Float", { length: 12, shape: [], strides: [], offset: 5 }),
    }),
  ]]);
  await withFile(torchZip(value, { "0": new Uint8Array(GRID.buffer) }), async (path) => {
    using file = await openTorch(path, { key: "state_dict", stripPrefix: "module." });
    assertEquals(file.names, ["grid", "t", "part", "one"]);
    assertEquals(file.info("t"), { dtype: "F32", shape: [3, 4], byteLength: 48 });
    assertEquals(await (await file.slice("grid", { start: 2 })).array(), [[6, 7, 8], [9, 10, 11]]);
    assertEquals(await (await file.slice("t", { start: 1, end: 2 })).array(), [[1, 4, 7, 10]]);
    assertEquals(await (await file.tensor("part")).array(), [4, 7]);
    assertEquals(await (await file.tensor("one")).array(), 5);
  });
  await withFile(torchStream(value, [["0", 12, new Uint8Array(GRID.buffer)]]), async (path) => {
    await assertRejects(() => openTorch(path), FormatError, "expected torch 1.6 or later");
  });
});

Deno.test("an open file is read where it is asked for only", async () => {
  const large = new Float32Array(300_000).fill(1);
  const safetensors = encodeSafetensors({
    a: { dtype: "F32", shape: [300, 1000], data: large },
    b: { dtype: "F32", shape: [300, 1000], data: large },
  });
  const bytes = new Uint8Array(large.buffer);
  const view = { length: 300_000, shape: [300, 1000], strides: [1000, 1] };
  const torch = torchZip(
    ordered({
      a: torchTensor("Float", view),
      b: torchTensor("Float", { ...view, key: "1" }),
    }),
    { "0": bytes, "1": bytes },
  );
  const cases: [Uint8Array, (path: string) => WeightFile | Promise<WeightFile>][] = [
    [safetensors, openSafetensors],
    [torch, openTorch],
  ];
  for (const [content, open] of cases) {
    await withFile(content, async (path) => {
      let file: WeightFile | undefined;
      // The end of a zip archive is searched in the last 64 KiB.
      assert(await countRead(async () => void (file = await open(path))) < 70_000);
      using opened = file!;
      const read = await countRead(async () => void await opened.array("b", { start: 7, end: 9 }));
      // A zip archive tells before the data where it begins.
      const header = open === openTorch ? 30 + "archive/data/1".length + 4 : 0;
      assertEquals(read, 8000 + header);
      const all = await countRead(async () => void await opened.array("a"));
      assertEquals(all, 1_200_000 + header);
      assertEquals(await countRead(async () => void await opened.array("a")), 1_200_000);
    });
  }
});

Deno.test("openSafetensors() takes little memory for a file of 6 GB", async () => {
  const [rows, columns] = [3 * 2 ** 19, 1000];
  const size = 4 * rows * columns;
  const header = new TextEncoder().encode(JSON.stringify({
    x: { dtype: "F32", shape: [rows, columns], data_offsets: [0, size] },
  }));
  const start = 8 + header.length;
  await withFile(Uint8Array.from([...le([8, header.length]), ...header]), async (path) => {
    // The file has a hole up to its last row.
    await Deno.truncate(path, start + size);
    using writer = await Deno.open(path, { write: true });
    await writer.seek(start + size - 4, Deno.SeekMode.Start);
    await writer.write(new Uint8Array(Float32Array.of(2.5).buffer));
    // What this thread has; other tests share the process.
    const held = () => {
      const { heapUsed, external } = Deno.memoryUsage();
      return heapUsed + external;
    };
    const before = held();
    using file = openSafetensors(path);
    const { shape, data } = await file.array("x", { start: rows - 2 });
    assertEquals(shape, [2, columns]);
    assertEquals([data[0], data.at(-1)], [0, 2.5]);
    assert(held() - before < 2 ** 26);
  });
});
