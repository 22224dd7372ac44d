import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { type Dataset, randomSplit, Subset } from "../../../nn/data/dataset.ts";

function numbers(length: number): Dataset<number> {
  return { length, get: (index) => 10 * index };
}

Deno.test("Subset gets the samples its indices name", () => {
  const subset = new Subset(numbers(5), [4, 0, 4]);
  assertEquals(subset.length, 3);
  assertEquals([subset.get(0), subset.get(1), subset.get(2)], [40, 0, 40]);
});

Deno.test("Subset passes promises through", async () => {
  const dataset: Dataset<string> = { length: 2, get: (i) => Promise.resolve(`sample ${i}`) };
  assertEquals(await new Subset(dataset, [1]).get(0), "sample 1");
});

Deno.test("Subset keeps its own copy of the indices", () => {
  const indices = [1];
  const subset = new Subset(numbers(3), indices);
  indices[0] = 2;
  assertEquals(subset.get(0), 10);
});

Deno.test("Subset throws for an index outside the data set", () => {
  for (const bad of [-1, 5, 0.5, NaN]) {
    assertThrows(() => new Subset(numbers(5), [0, bad]), RangeError, "valid are 0 to 4");
    assertThrows(() => new Subset(numbers(5), [0]).get(bad), RangeError, "valid are 0 to 0");
  }
});

Deno.test("randomSplit() covers the data set without overlap", () => {
  const parts = randomSplit(numbers(103), [0.7, 0.2, 0.1], { seed: 1 });
  const all = parts.flatMap((part) => [...part.indices]);
  assertEquals(all.toSorted((a, b) => a - b), Array.from({ length: 103 }, (_, i) => i));
  assertNotEquals(all, all.toSorted((a, b) => a - b));
});

Deno.test("randomSplit() turns fractions into lengths as PyTorch does", () => {
  const lengths = (n: number, fractions: number[]) =>
    randomSplit(numbers(n), fractions, { seed: 0 }).map((part) => part.length);
  // By torch 2.5 random_split: floors, then one more for the first parts.
  assertEquals(lengths(4043, [0.85, 0.15]), [3437, 606]);
  assertEquals(lengths(103, [0.7, 0.2, 0.1]), [73, 20, 10]);
  assertEquals(lengths(11, [0.25, 0.25, 0.25, 0.25]), [3, 3, 3, 2]);
  assertEquals(lengths(10, [1 / 3, 1 / 3, 1 / 3]), [4, 3, 3]);
  assertEquals(lengths(2, [0.1, 0.1, 0.8]), [1, 0, 1]);
  assertEquals(lengths(0, [0.5, 0.5]), [0, 0]);
  assertEquals(lengths(7, [1]), [7]);
});

Deno.test("randomSplit() takes lengths", () => {
  const parts = randomSplit(numbers(6), [4, 0, 2], { seed: 0 });
  assertEquals(parts.map((part) => part.length), [4, 0, 2]);
});

Deno.test("randomSplit() depends on the seed and on nothing else", () => {
  const indices = (seed: number) =>
    randomSplit(numbers(50), [0.5, 0.5], { seed }).map((part) => part.indices);
  assertEquals(indices(3), indices(3));
  assertNotEquals(indices(3), indices(4));
});

Deno.test("randomSplit() puts every sample into each part as often", () => {
  const hits = new Array<number>(5).fill(0), n = 2000;
  for (let seed = 0; seed < n; seed++) {
    for (const index of randomSplit(numbers(5), [2, 3], { seed })[0]!.indices) hits[index]!++;
  }
  const sigma = Math.sqrt(n * 0.4 * 0.6);
  for (const count of hits) assert(Math.abs(count - 0.4 * n) < 5 * sigma, `${hits}`);
});

Deno.test("randomSplit() throws for lengths that do not add up", () => {
  const split = (lengths: number[]) => () => randomSplit(numbers(10), lengths, { seed: 0 });
  assertThrows(split([5, 4]), RangeError, "add up to 10 or fractions that add up to 1");
  assertThrows(split([0.5, 0.4]), RangeError, "add up to 10");
  assertThrows(split([9.5, 0.5]), RangeError, "add up to 10");
  assertThrows(split([11, -1]), RangeError, "-1 must not be negative");
  assertThrows(split([NaN]), RangeError, "NaN must not be negative");
  assertThrows(split([]), RangeError, "add up to 10");
});
