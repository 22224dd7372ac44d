import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { drawLetter, letterSample, writeLetters } from "../../../experiments/synth/letters.ts";
import { readEmnistLetters } from "../../../nn/data/emnist.ts";
import { HostRandom } from "../../../nn/data/rng.ts";
import { RunError } from "../../../nn/run/mod.ts";

const SIDE = 28;

Deno.test("letterSample() is a pure function of seed, split and index", () => {
  const seed = 3;
  const first = letterSample(40, { seed, split: "train" });
  letterSample(41, { seed, split: "train" });
  assertEquals(letterSample(40, { seed, split: "train" }), first);
  for (
    const other of [
      letterSample(41, { seed, split: "train" }),
      letterSample(40, { seed, split: "test" }),
      letterSample(40, { seed: 4, split: "train" }),
    ]
  ) assertNotEquals(other.image, first.image);
});

Deno.test("letterSample() gives every letter once in each run of 26, in different orders", () => {
  const orders = [0, 1, 2].map((block) =>
    Array.from(
      { length: 26 },
      (_, i) => letterSample(26 * block + i, { seed: 0, split: "test" }).label,
    )
  );
  for (const order of orders) {
    assertEquals(order.toSorted((a, b) => a - b), Array.from({ length: 26 }, (_, i) => i));
  }
  assertNotEquals(orders[0], orders[1]);
  assertNotEquals(orders[1], orders[2]);
});

Deno.test("drawLetter() draws what generator 1 draws", async () => {
  // A change of the drawings needs a new GENERATOR in letters.ts, then a new hash here.
  const images = Array.from({ length: 26 }, (_, label) => drawLetter(label, new HostRandom(label)));
  const bytes = new Uint8Array(await new Blob(images).arrayBuffer());
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  assertEquals(hash.subarray(0, 8).toHex(), "cb2485e5879695ba");
});

Deno.test("drawLetter() keeps ink inside the image and paper dark", () => {
  for (let label = 0; label < 26; label++) {
    for (let n = 0; n < 20; n++) {
      const image = drawLetter(label, new HostRandom(n, label));
      let border = 0;
      for (let i = 0; i < SIDE; i++) {
        for (const at of [i, i * SIDE, i * SIDE + SIDE - 1, (SIDE - 1) * SIDE + i]) {
          border = Math.max(border, image[at]!);
        }
      }
      // Ink of at most 255 at 0.5 px outside a stroke with a blur of 1.9 px, noise of at most 22 * 3.45.
      assert(
        border < 255 * (0.5 - 0.5 / 1.9) + 22 * 3.45,
        `letter ${label}, seed ${n}: border reaches ${border}`,
      );
      assert(Math.max(...image) >= 150, `letter ${label}, seed ${n}: no bright ink`);
      const dark = image.filter((grey) => grey < 90).length;
      assert(dark > 0.5 * image.length, `letter ${label}, seed ${n}: only ${dark} dark pixels`);
    }
  }
});

Deno.test("drawLetter() throws on a label that is no letter", () => {
  assertThrows(() => drawLetter(26, new HostRandom(0)), RangeError, "Cannot draw letter 26");
});

Deno.test("letters differ enough to be told apart, also mirrored, but not trivially", () => {
  const train = samples("train", 520), test = samples("test", 130);
  const mirrored = train.map(({ image, label }) => ({ image: mirror(image), label }));
  const plain = nearestNeighbourAccuracy(test, train);
  const both = nearestNeighbourAccuracy(test, [...train, ...mirrored]);
  // Chance is 0.04. Flipped letters must cost little: measured 0.54 and 0.52.
  assert(plain > 0.4 && plain < 0.9, `plain ${plain}`);
  assert(both > plain - 0.1, `with mirrored letters ${both}, without ${plain}`);
});

Deno.test("writeLetters() writes files that read back as the letters drawn", async () => {
  await using folder = await temporaryFolder();
  const dir = `${folder.path}/cache/letters`;
  assert(await writeLetters(dir, { train: 60, test: 27, seed: 5 }));
  for (const [split, count] of [["train", 60], ["test", 27]] as const) {
    const read = await readEmnistLetters(dir, split);
    assertEquals(read.count, count);
    for (let index = 0; index < count; index++) {
      const { image, label } = letterSample(index, { seed: 5, split });
      assertEquals(read.labels[index], label);
      assertEquals(read.images.slice(index * SIDE * SIDE, (index + 1) * SIDE * SIDE), image);
    }
  }
  assertEquals([...Deno.readDirSync(`${folder.path}/cache`)].map((entry) => entry.name), [
    "letters",
  ]);
});

Deno.test("writeLetters() gives the same bytes again", async () => {
  await using folder = await temporaryFolder();
  const options = { train: 30, test: 26, seed: 1 };
  await writeLetters(`${folder.path}/a`, options);
  await writeLetters(`${folder.path}/b`, options);
  for (const { name } of Deno.readDirSync(`${folder.path}/a`)) {
    assertEquals(
      Deno.readFileSync(`${folder.path}/a/${name}`),
      Deno.readFileSync(`${folder.path}/b/${name}`),
    );
  }
});

Deno.test("writeLetters() leaves a complete folder alone and replaces another", async () => {
  await using folder = await temporaryFolder();
  const dir = `${folder.path}/letters`;
  assert(await writeLetters(dir, { train: 26, test: 26, seed: 1 }));
  await Deno.writeTextFile(`${dir}/mark`, "");
  assert(!await writeLetters(dir, { train: 26, test: 26, seed: 1 }));
  assert(await writeLetters(`${dir}/`, { train: 26, test: 26, seed: 2 }));
  assertEquals(
    [...Deno.readDirSync(dir)].map((entry) => entry.name).filter((name) => name === "mark"),
    [],
  );
  await Deno.remove(`${dir}/letters-test-labels-idx1-ubyte.gz`);
  assert(await writeLetters(dir, { train: 26, test: 26, seed: 2 }));
  assertEquals((await readEmnistLetters(dir, "test")).count, 26);
});

Deno.test("writeLetters() refuses a folder with other files", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/thesis.txt`, "mine");
  await assertRejects(
    () => writeLetters(folder.path, { train: 26, test: 26, seed: 1 }),
    RunError,
    "holds something else",
  );
  assertEquals(await Deno.readTextFile(`${folder.path}/thesis.txt`), "mine");
});

Deno.test("writeLetters() throws on a count below 1", async () => {
  await assertRejects(
    () => writeLetters("unused", { train: 26, test: 0, seed: 1 }),
    RangeError,
    "Cannot draw 0 test letters",
  );
});

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

interface Sample {
  image: Uint8Array;
  label: number;
}

function samples(split: "train" | "test", count: number): Sample[] {
  return Array.from({ length: count }, (_, index) => letterSample(index, { seed: 9, split }));
}

function mirror(image: Uint8Array): Uint8Array {
  return image.map((_, i) => image[i - (i % SIDE) + SIDE - 1 - (i % SIDE)]!);
}

function nearestNeighbourAccuracy(test: Sample[], train: Sample[]): number {
  const right = test.filter(({ image, label }) => {
    let best = Infinity, found = -1;
    for (const other of train) {
      let sum = 0;
      for (let i = 0; i < image.length; i++) sum += (image[i]! - other.image[i]!) ** 2;
      if (sum < best) [best, found] = [sum, other.label];
    }
    return found === label;
  });
  return right.length / test.length;
}
