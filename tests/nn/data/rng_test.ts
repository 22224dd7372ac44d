import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { philox4x32 } from "../../../engine/philox.ts";
import { HostRandom, libraryStream } from "../../../nn/data/rng.ts";

/** Asserts that a count of successes is within 5 standard deviations of a binomial's mean. */
function assertBinomial(count: number, { n, p }: { n: number; p: number }): void {
  const sigma = Math.sqrt(n * p * (1 - p));
  assert(
    Math.abs(count - n * p) < 5 * sigma,
    `${count} of ${n}, expected ${n * p} +- ${5 * sigma}`,
  );
}

function words(random: HostRandom, count: number): number[] {
  return Array.from({ length: count }, () => random.uint32());
}

Deno.test("HostRandom uint32() walks through Philox blocks", () => {
  const seed = 5 + 3 * 2 ** 32, stream = 7 + 2 * 2 ** 32;
  assertEquals(words(new HostRandom(seed, stream), 12), [
    ...philox4x32([0, 0, 7, 2], [5, 3]),
    ...philox4x32([1, 0, 7, 2], [5, 3]),
    ...philox4x32([2, 0, 7, 2], [5, 3]),
  ]);
});

Deno.test("HostRandom repeats for a seed and differs between seeds and streams", () => {
  const first = words(new HostRandom(1), 100);
  assertEquals(words(new HostRandom(1, 0), 100), first);
  const others = [[2, 0], [1 + 2 ** 32, 0], [1, 1], [1, 2 ** 32], [1, libraryStream(1, 0)]];
  for (const [seed = 0, stream] of others) {
    assertNotEquals(words(new HostRandom(seed, stream), 100), first, `${seed} ${stream}`);
  }
});

Deno.test("HostRandom throws for a seed or stream that is no integer below 2^53", () => {
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => new HostRandom(bad), RangeError, "as seed");
    assertThrows(() => new HostRandom(0, bad), RangeError, "as stream");
  }
});

Deno.test("HostRandom uniform() is the documented fraction of two words", () => {
  const [high = 0, low = 0] = words(new HostRandom(11), 2);
  const fraction = Number((BigInt(high >>> 5) << 26n) + BigInt(low >>> 6)) / 2 ** 53;
  assertEquals(new HostRandom(11).uniform(), fraction);
  assertEquals(new HostRandom(11).uniform(-3, 5), -3 + 8 * fraction);
});

Deno.test("HostRandom uniform() fills [low, high) evenly", () => {
  const random = new HostRandom(3);
  const n = 20_000, bins = new Array<number>(10).fill(0);
  for (let i = 0; i < n; i++) {
    const value = random.uniform(-2, 3);
    assert(value >= -2 && value < 3);
    bins[Math.floor((value + 2) * 2)]!++;
  }
  for (const count of bins) assertBinomial(count, { n, p: 0.1 });
});

Deno.test("HostRandom uniform() never gives the upper bound", () => {
  const random = new HostRandom(4);
  // Between neighbours half of all draws would round up to the upper one.
  const high = 1 + Number.EPSILON;
  for (let i = 0; i < 100; i++) assertEquals(random.uniform(1, high), 1);
  assertEquals(random.uniform(2, 2), 2);
});

Deno.test("HostRandom uniform() throws for bounds that are no interval", () => {
  const random = new HostRandom(0);
  for (const [low, high] of [[1, 0], [NaN, 1], [0, Infinity], [-1e308, 1e308]] as const) {
    assertThrows(() => random.uniform(low, high), RangeError, "low <= high");
  }
});

Deno.test("HostRandom normal() has the moments of a normal distribution", () => {
  const random = new HostRandom(5);
  const n = 40_000, sums = [0, 0, 0, 0];
  let inside = 0;
  for (let i = 0; i < n; i++) {
    const value = random.normal();
    for (let k = 0; k < 4; k++) sums[k]! += value ** (k + 1);
    if (Math.abs(value) < 1) inside++;
  }
  // Moments 0, 1, 0, 3; variances of a sample's power: 1, 2, 15, 96.
  [[0, 1], [1, 2], [0, 15], [3, 96]].forEach(([mean = 0, variance = 0], k) => {
    const error = Math.abs(sums[k]! / n - mean);
    assert(error < 5 * Math.sqrt(variance / n), `moment ${k + 1} is off by ${error}`);
  });
  assertBinomial(inside, { n, p: 0.6826894921 }); // within one standard deviation
});

Deno.test("HostRandom normal() scales by mean and std", () => {
  const z = new HostRandom(6).normal();
  assertEquals(new HostRandom(6).normal(10, 3), 10 + 3 * z);
});

Deno.test("HostRandom integer() gives every value as often", () => {
  const random = new HostRandom(7);
  const n = 30_000, counts = new Map<number, number>();
  for (let i = 0; i < n; i++) {
    const value = random.integer(-2, 4);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  assertEquals([...counts.keys()].sort((a, b) => a - b), [-2, -1, 0, 1, 2, 3]);
  for (const count of counts.values()) assertBinomial(count, { n, p: 1 / 6 });
});

Deno.test("HostRandom integer() is unbiased where 2^32 is no multiple of the range", () => {
  const random = new HostRandom(8);
  const n = 10_000, range = 3 * 2 ** 30;
  let low = 0;
  for (let i = 0; i < n; i++) if (random.integer(0, range) < 2 ** 30) low++;
  assertBinomial(low, { n, p: 1 / 3 }); // a plain remainder gives 1/2
});

Deno.test("HostRandom integer() takes ranges of 1 and of 2^32", () => {
  assertEquals(new HostRandom(9).integer(5, 6), 5);
  assertEquals(new HostRandom(9).integer(0, 2 ** 32), new HostRandom(9).uint32());
});

Deno.test("HostRandom integer() throws for an empty or too wide range", () => {
  const random = new HostRandom(0);
  for (const [low, high] of [[0, 0], [1, 0], [0, 2 ** 32 + 1], [0.5, 2], [0, NaN]] as const) {
    assertThrows(() => random.integer(low, high), RangeError, "must be integers");
  }
});

Deno.test("HostRandom shuffle() gives every order as often and keeps the array", () => {
  const random = new HostRandom(10);
  const n = 12_000, counts = new Map<string, number>();
  for (let i = 0; i < n; i++) {
    const array = ["a", "b", "c"];
    assert(random.shuffle(array) === array);
    counts.set(array.join(""), (counts.get(array.join("")) ?? 0) + 1);
  }
  assertEquals(counts.size, 6);
  for (const count of counts.values()) assertBinomial(count, { n, p: 1 / 6 });
});

Deno.test("HostRandom shuffle() takes typed arrays and keeps their elements", () => {
  const array = Uint32Array.from({ length: 1000 }, (_, i) => i);
  const shuffled = new HostRandom(1).shuffle(array.slice());
  assertNotEquals(shuffled, array);
  assertEquals(shuffled.toSorted(), array);
});
