import { assert, assertEquals } from "@std/assert";
import { planMemory, type Span } from "../../../engine/gpu/plan.ts";
import { Draw } from "../../helpers/draw.ts";

const ALIGN = 256;

/** Whole numbers from `low` to `high`. */
function integers(name: string): (low: number, high: number) => number {
  const source = new Draw(name);
  return (low, high) => low + Math.floor(source.uniform() * (high - low + 1));
}

function span(bytes: number, first: number, last: number, apart: number[] = []): Span {
  return { bytes, first, last, apart: new Set(apart) };
}

/** Most bytes that are needed at once: no plan can do with less. */
function needed(spans: readonly Span[]): number {
  const times = spans.flatMap(({ first, last }) => last === Infinity ? [first] : [first, last]);
  const at = (t: number) =>
    spans.filter(({ first, last }) => first <= t && t <= last)
      .reduce((n, { bytes }) => n + Math.ceil(bytes / ALIGN) * ALIGN, 0);
  return Math.max(0, ...times.map(at));
}

function total(buffers: readonly number[]): number {
  return buffers.reduce((a, b) => a + b, 0);
}

/** What is wrong with a plan. */
function faults(spans: readonly Span[], slack = Infinity): string[] {
  const { buffers, places } = planMemory(spans, { align: ALIGN, slack });
  const found: string[] = [];
  const check = (right: boolean, message: string) => void (right || found.push(message));
  spans.forEach((a, i) => {
    const { buffer, offset } = places[i]!;
    check(offset % ALIGN === 0 && buffers[buffer]! % ALIGN === 0, `${i} is not aligned`);
    check(offset + a.bytes <= buffers[buffer]!, `${i} ends behind its buffer`);
    if (a.last === Infinity) {
      check(offset === 0, `${i} outlives the step and is not at the start`);
      check(buffers[buffer]! <= slack * Math.ceil(a.bytes / ALIGN) * ALIGN, `${i} holds too much`);
    }
    spans.forEach((b, k) => {
      const other = places[k]!;
      if (k <= i || other.buffer !== buffer) return;
      if (a.last < b.first || b.last < a.first) return;
      check(!a.apart.has(k), `${i} and ${k} are in one buffer`);
      const clear = offset + a.bytes <= other.offset || other.offset + b.bytes <= offset;
      check(clear, `${i} and ${k} overlap`);
    });
  });
  check(total(buffers) >= needed(spans), "less than can be");
  return found;
}

Deno.test("planMemory(): what is needed at the same time never overlaps", () => {
  const int = integers("plans");
  for (let round = 0; round < 200; round++) {
    const count = int(0, 40);
    const apart: Set<number>[] = Array.from({ length: count }, () => new Set());
    const spans = apart.map((own): Span => {
      const first = int(0, 30);
      const last = int(0, 9) === 0 ? Infinity : first + int(0, 12);
      return { bytes: int(0, 5000), first, last, apart: own };
    });
    for (let pair = 0; pair < count; pair++) {
      const [a, b] = [int(0, count - 1), int(0, count - 1)];
      if (a === b) continue;
      apart[a]!.add(b);
      apart[b]!.add(a);
    }
    for (const slack of [Infinity, 1.25]) assertEquals(faults(spans, slack), [], `round ${round}`);
  }
});

Deno.test("planMemory(): of a chain two buffers are enough, and one holds several small tensors", () => {
  const chain = Array.from({ length: 20 }, (_, i) => span(4096, i, i + 1, [i - 1, i + 1]));
  assertEquals(planMemory(chain, { align: ALIGN, slack: Infinity }).buffers, [4096, 4096]);
  const large = span(4096, 0, 1);
  const small = [span(1024, 2, 5), span(1000, 3, 5), span(2048, 4, 5)];
  const { buffers, places } = planMemory([large, ...small], { align: ALIGN, slack: Infinity });
  assertEquals(buffers, [4096]);
  assertEquals(places.slice(1).map(({ offset }) => offset).toSorted((a, b) => a - b), [
    0,
    2048,
    3072,
  ]);
});

Deno.test("planMemory(): what one dispatch reads and writes is in two buffers, and what outlives the step at a start", () => {
  const before = span(4096, 0, 1);
  const pair = [span(1024, 2, 3, [2]), span(1024, 2, 3, [1])];
  const { buffers, places } = planMemory([before, ...pair], { align: ALIGN, slack: Infinity });
  assertEquals(buffers, [4096, 1024]);
  assert(places[1]!.buffer !== places[2]!.buffer);
  // A gradient may have the memory of an activation that is gone, unless it would keep too much.
  const gradient = span(1024, 2, Infinity);
  assertEquals(planMemory([before, gradient], { align: ALIGN, slack: Infinity }).buffers, [4096]);
  assertEquals(planMemory([before, gradient], { align: ALIGN, slack: 1.25 }).buffers, [4096, 1024]);
});

Deno.test("planMemory(): a step forward and back needs hardly more than it must", () => {
  const int = integers("steps");
  for (let round = 0; round < 20; round++) {
    const layers = int(3, 40);
    const spans: Span[] = [];
    const sizes = Array.from({ length: layers }, () => 256 * int(1, 4000));
    // An activation lives until its layer's gradient; each gradient until the next one is there.
    sizes.forEach((bytes, i) => spans.push(span(bytes, i, 2 * layers - i, [i - 1, i + 1])));
    sizes.forEach((bytes, i) => spans.push(span(bytes, 2 * layers - i, 2 * layers - i + 1)));
    sizes.forEach((_, i) => spans.push(span(256 * int(1, 400), 2 * layers - i, Infinity)));
    const { buffers } = planMemory(spans, { align: ALIGN, slack: Infinity });
    const ratio = total(buffers) / needed(spans);
    assert(ratio < 1.25, `${ratio} times as much as needed in round ${round}`);
  }
});
