import { assert, assertEquals, assertRejects } from "@std/assert";
import { CIFAR10_CLASSES, readCifar10 } from "../../../nn/data/cifar.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { edits, readAll, truncations } from "../../helpers/fuzz.ts";

const RECORD = 3073;

/** A file of records whose bytes differ from one another. */
function cifarFile(labels: number[]): Uint8Array {
  const bytes = Uint8Array.from({ length: labels.length * RECORD }, (_, i) => (i * 37 + 5) % 251);
  labels.forEach((label, record) => bytes[record * RECORD] = label);
  return bytes;
}

Deno.test("readCifar10() takes labels and images apart, as many as there are", async () => {
  for (const labels of [[], [9], [0, 9, 4]]) {
    const bytes = cifarFile(labels), before = bytes.slice();
    const read = await readCifar10(bytes);
    assertEquals([read.count, read.channels, read.height, read.width], [labels.length, 3, 32, 32]);
    assertEquals(read.labels, Uint8Array.from(labels));
    const pixels = bytes.filter((_, i) => i % RECORD !== 0);
    assertEquals(read.images, Uint8Array.from(pixels));
    read.images.fill(0);
    assertEquals(bytes, before);
  }
  assertEquals(CIFAR10_CLASSES.length, 10);
});

Deno.test("readCifar10() reads from a path", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, cifarFile([3]));
    assertEquals((await readCifar10(path)).labels, Uint8Array.of(3));
    await Deno.truncate(path, RECORD - 1);
    await assertRejects(() => readCifar10(path), FormatError, `Cannot read ${path}: 3072 bytes`);
    await assertRejects(() => readCifar10(`${path}.none`), Deno.errors.NotFound, "no such file");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("readCifar10() refuses a part of a record and a label that is no class", async () => {
  const file = "test_batch.bin";
  const cut = await assertRejects(
    () => readCifar10(cifarFile([1, 2]).subarray(0, RECORD + 10), { file }),
    FormatError,
    "Cannot read test_batch.bin: 10 bytes after 1 records at byte 3073, " +
      "expected the end of the file, or 3073 bytes of a record",
  );
  assertEquals(cut.offset, RECORD);
  const label = await assertRejects(
    () => readCifar10(cifarFile([1, 2, 10]), { file }),
    FormatError,
    "label 10 of record 2 at byte 6146, expected 0 (airplane) to 9 (truck)",
  );
  assertEquals(label.offset, 2 * RECORD);
});

Deno.test("readCifar10() reads or refuses damaged files", async () => {
  const bytes = cifarFile([7]);
  const cut = await readAll(truncations(bytes), readCifar10);
  assertEquals(cut.accepted.map(({ bytes }) => bytes.length), [0]);
  const random = await readAll(edits(bytes, { seed: 1, count: 500 }), readCifar10);
  for (const { bytes, result, how } of random.accepted) {
    assertEquals(bytes.length, RECORD, how);
    assertEquals([result.labels[0], result.images.at(-1)], [bytes[0], bytes.at(-1)], how);
  }
  assert(random.refused > 300 && random.accepted.length > 0);
});
