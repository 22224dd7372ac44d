import { assertEquals, assertRejects } from "@std/assert";
import { readEmnistLetters } from "../../../nn/data/emnist.ts";
import { writeIdx } from "../../../nn/data/idx.ts";
import { FormatError } from "../../../nn/format_error.ts";

/** Writes images and labels as a pair of idx files. */
async function writePair(
  dir: string,
  options: {
    prefix?: string;
    split?: string;
    images?: Uint8Array<ArrayBuffer>;
    shape?: number[];
    labels?: number[];
    gzip?: boolean;
  } = {},
): Promise<void> {
  const { prefix = "letters-", split = "train", labels = [1, 26], gzip = false } = options;
  const { shape = [labels.length, 28, 28] } = options;
  const size = shape.reduce((product, dim) => product * dim, 1);
  const { images = new Uint8Array(size) } = options;
  const start = `${dir}/${prefix}${split}`, end = gzip ? ".gz" : "";
  await Deno.writeFile(
    `${start}-images-idx3-ubyte${end}`,
    await writeIdx({ shape, data: images }, { gzip }),
  );
  await Deno.writeFile(
    `${start}-labels-idx1-ubyte${end}`,
    await writeIdx({ shape: [labels.length], data: Uint8Array.from(labels) }, { gzip }),
  );
}

async function withDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function refused(dir: string, message: string): Promise<FormatError> {
  return assertRejects(() => readEmnistLetters(dir, "train"), FormatError, message);
}

Deno.test("readEmnistLetters() turns images upright and counts labels from 0", async () => {
  await withDir(async (dir) => {
    const images = Uint8Array.from({ length: 2 * 784 }, (_, i) => (i * 37) % 251);
    for (const gzip of [false, true]) {
      const split = gzip ? "test" : "train";
      await writePair(dir, { split, images, labels: [1, 26], gzip });
      const read = await readEmnistLetters(dir, split);
      assertEquals([read.count, read.height, read.width], [2, 28, 28]);
      assertEquals(read.labels, Uint8Array.of(0, 25));
      for (let image = 0; image < 2; image++) {
        for (let row = 0; row < 28; row++) {
          for (let column = 0; column < 28; column++) {
            const stored = images[image * 784 + column * 28 + row];
            assertEquals(read.images[image * 784 + row * 28 + column], stored);
          }
        }
      }
    }
  });
});

Deno.test("readEmnistLetters() takes any prefix and no prefix", async () => {
  for (const prefix of ["emnist-letters-", "femnist-letters-", "own-", ""]) {
    await withDir(async (dir) => {
      await writePair(dir, { prefix, labels: [3] });
      assertEquals((await readEmnistLetters(dir, "train")).labels, Uint8Array.of(2));
      assertEquals((await readEmnistLetters(`${dir}/`, "train")).count, 1);
      assertEquals((await readEmnistLetters(new URL(`file://${dir}`), "train")).count, 1);
    });
  }
});

Deno.test("readEmnistLetters() leaves other files alone", async () => {
  await withDir(async (dir) => {
    await writePair(dir, { prefix: "emnist-letters-", labels: [3] });
    // As in EMNIST's archive, and the label file of another set of classes.
    await writePair(dir, { prefix: "emnist-balanced-", labels: [30, 31] });
    await writePair(dir, { prefix: "", labels: [30, 31, 32] });
    await writePair(dir, { prefix: "emnist-letters-", split: "test", labels: [4, 5] });
    await Deno.writeFile(`${dir}/emnist-letters-train-labels62-idx1-ubyte`, new Uint8Array(3));
    await Deno.writeTextFile(`${dir}/emnist-letters-mapping.txt`, "1 65 97");
    await Deno.mkdir(`${dir}/a-letters-train-images-idx3-ubyte`);
    assertEquals((await readEmnistLetters(dir, "train")).labels, Uint8Array.of(2));
    assertEquals((await readEmnistLetters(dir, "test")).labels, Uint8Array.of(3, 4));
  });
});

Deno.test("readEmnistLetters() prefers the plain file to its gzip copy", async () => {
  await withDir(async (dir) => {
    await writePair(dir, { labels: [3] });
    await Deno.writeFile(`${dir}/letters-train-images-idx3-ubyte.gz`, new Uint8Array(3));
    assertEquals((await readEmnistLetters(dir, "train")).count, 1);
  });
});

Deno.test("readEmnistLetters() throws for a missing folder and for a file in its place", async () => {
  await withDir(async (dir) => {
    await assertRejects(
      () => readEmnistLetters(`${dir}/none`, "train"),
      Deno.errors.NotFound,
      `Cannot read ${dir}/none: no such folder, expected one with EMNIST's idx files`,
    );
    await Deno.writeTextFile(`${dir}/file`, "");
    await assertRejects(
      () => readEmnistLetters(`${dir}/file`, "train"),
      Deno.errors.NotADirectory,
      "it is a file, expected the folder",
    );
  });
});

Deno.test("readEmnistLetters() names the missing file and what the folder holds", async () => {
  await withDir(async (dir) => {
    await assertRejects(
      () => readEmnistLetters(dir, "test"),
      Deno.errors.NotFound,
      `Cannot find *-test-images-idx3-ubyte or *-test-images-idx3-ubyte.gz in ${dir}: ` +
        "the folder has no files",
    );
    await writePair(dir);
    await assertRejects(
      () => readEmnistLetters(dir, "test"),
      Deno.errors.NotFound,
      "the folder holds letters-train-images-idx3-ubyte, letters-train-labels-idx1-ubyte",
    );
    await Deno.remove(`${dir}/letters-train-labels-idx1-ubyte`);
    await assertRejects(
      () => readEmnistLetters(dir, "train"),
      Deno.errors.NotFound,
      "Cannot find letters-train-labels-idx1-ubyte or letters-train-labels-idx1-ubyte.gz",
    );
  });
});

Deno.test("readEmnistLetters() does not guess between two sets", async () => {
  await withDir(async (dir) => {
    await writePair(dir, { prefix: "a-" });
    await writePair(dir, { prefix: "b-" });
    await assertRejects(
      () => readEmnistLetters(dir, "train"),
      Deno.errors.InvalidData,
      "Cannot choose between a-train-images-idx3-ubyte and b-train-images-idx3-ubyte",
    );
  });
});

Deno.test("readEmnistLetters() refuses files that are not what it reads", async () => {
  await withDir(async (dir) => {
    const images = `${dir}/letters-train-images-idx3-ubyte`;
    const labels = `${dir}/letters-train-labels-idx1-ubyte`;
    await writePair(dir, { shape: [3, 28, 28], labels: [1, 2] });
    await refused(dir, `Cannot read ${labels}: 2 labels at byte 4, expected 3, as many`);
    await writePair(dir, { shape: [2, 28, 27], labels: [1, 2] });
    await refused(dir, `Cannot read ${images}: images of 28x27 at byte 8, expected 28x28`);
    for (const bad of [0, 27]) {
      await writePair(dir, { labels: [1, 26, bad] });
      const error = await refused(
        dir,
        `label ${bad} of image 2 at byte 10, expected 1 (a) to 26 (z)`,
      );
      assertEquals(error.file, labels);
    }
    await Deno.copyFile(labels, images);
    await refused(dir, "bad magic 0x00000801 at byte 0, expected 0x00000803 (idx3 of u8)");
  });
});

Deno.test("readEmnistLetters() takes a set without images", async () => {
  await withDir(async (dir) => {
    await writePair(dir, { labels: [] });
    assertEquals((await readEmnistLetters(dir, "train")).count, 0);
  });
});
