import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { init, manualSeed } from "../../mod.ts";
import {
  compare,
  difference,
  formatPeers,
  geometricMean,
  pairedRatio,
  summary,
} from "../../bench/peers/compare.ts";
import { lathe } from "../../bench/peers/lathe.ts";
import type { Job, Library } from "../../bench/peers/library.ts";
import { peerWorkloads } from "../../bench/peers/run.ts";
import { nameOf, type Work } from "../../bench/work.ts";
import { importsOf, readSources } from "../helpers/source.ts";

const WORK: Work = { op: "sum rows", rows: 4, columns: 8 };
const OPTIONS = { rounds: 3, sampleMs: 1 };

/** A library that sums rows on the host, plus an error. */
function host(name: string, wrong: number | Error | null): Library {
  return {
    name,
    prepare(_work, [x]): Promise<Job | null> {
      if (wrong === null) return Promise.resolve(null);
      if (wrong instanceof Error) return Promise.reject(wrong);
      const [rows, columns] = x!.shape as [number, number];
      const sums = Float32Array.from(
        { length: rows },
        (_, r) =>
          (x!.data as Float32Array).subarray(r * columns, (r + 1) * columns)
            .reduce((a, b) => a + b, wrong),
      );
      return Promise.resolve({
        run: () => {},
        results: () => Promise.resolve([sums]),
        dispose: () => {},
      });
    },
    synchronize: () => Promise.resolve(),
  };
}

Deno.test("bench --peers: results are compared, wrong ones and failures are not timed", async () => {
  await init();
  manualSeed(1);
  const libraries = [
    lathe(),
    host("right", 0),
    host("wrong", 0.1),
    host("failing", new Error("No such kernel")),
    host("lacking", null),
  ].map((library) => [library, 0] as const);
  const result = await compare(libraries, { work: WORK, from: "test" }, OPTIONS);
  const [ours, right, wrong, failing, lacking] = result.times;
  assert(ours!.ms > 0 && ours!.ratio === 1 && ours!.problem === undefined);
  assert(right!.ms > 0 && right!.problem === undefined);
  assert(wrong!.problem?.includes("WRONG") && Number.isNaN(wrong!.ms));
  assertEquals(failing!.problem, "fails: Error: No such kernel");
  assertEquals(lacking!.problem, "lacks it");
  const line = formatPeers(result);
  assert(line.includes("fails") && line.includes("–"), line);
  const names = summary([result]).map((text) => text.split(":")[0]);
  assertEquals(names, ["right"]);
});

Deno.test("bench --peers: what a library prints as an error counts as one", async () => {
  await init();
  const loud = host("loud", 0);
  const libraries = [[lathe(), 0], [{
    ...loud,
    prepare: (work: Work, inputs: Parameters<Library["prepare"]>[1]) => {
      console.error("Uncaptured error: binding too large");
      return loud.prepare(work, inputs);
    },
  }, 0]] as const;
  const { times } = await compare(libraries, { work: WORK, from: "test" }, OPTIONS);
  assertEquals(times[1]!.problem, "fails: Uncaptured error: binding too large");
});

Deno.test("bench --peers: differences are shares of the results' size", () => {
  const a = [Float32Array.of(3, -4), Float32Array.of(1)];
  assertEquals(difference(a, a), 0);
  const far = difference(a, [Float32Array.of(3, -4.5), a[1]!]);
  assertAlmostEquals(far, 0.5 / Math.sqrt(12.5), 1e-9);
  assertEquals(difference(a, [a[0]!]), Infinity);
  assertEquals(difference(a, [Float32Array.of(3, NaN), a[1]!]), Infinity);
});

Deno.test("bench --peers: the mean of ratios is geometric, and the worst is named", () => {
  assertAlmostEquals(geometricMean([2, 8]), 4, 1e-12);
  const result = (name: string, ratio: number) => ({
    name,
    from: "",
    flops: NaN,
    times: [{ library: "Lathe", ms: 1, ratio: 1 }, { library: "other", ms: ratio, ratio }],
  });
  assertEquals(summary([result("a", 2), result("b", 8)]), [
    "other: geometric mean 4.00x over 2, least 2.00x (a)",
  ]);
});

Deno.test("bench --peers: ratios are of the same round", () => {
  assertEquals(pairedRatio([2, 8, 9], [1, 2, 9]), 2);
  assertEquals(pairedRatio([6], [3, 1]), 2);
  assert(Number.isNaN(pairedRatio([], [3])));
});

Deno.test("bench --peers: names are unique", () => {
  const names = peerWorkloads({ n: 2 }).map(({ work }) => nameOf(work));
  assertEquals(new Set(names).size, names.length);
});

Deno.test("nothing but bench/peers names the peers", () => {
  const files = readSources(["mod.ts", "engine", "nn", "experiments", "bench"]);
  for (const { path, text } of files) {
    if (path.startsWith("bench/peers/")) continue;
    assert(!/tensorflow\/tfjs|@jax-js/.test(text), path);
    if (path.startsWith("bench/")) continue;
    for (const { specifier } of importsOf(text)) {
      assert(!specifier?.includes("bench/"), `${path} imports ${specifier}`);
    }
  }
  // They are loaded when --peers asks for them, by names that are computed.
  const peers = readSources(["bench/peers"]);
  const pinned = peers.filter(({ text }) => /const VERSION = "\d+\.\d+\.\d+"/.test(text));
  assertEquals(pinned.map(({ path }) => path).sort(), [
    "bench/peers/jax.ts",
    "bench/peers/tfjs.ts",
  ]);
});
