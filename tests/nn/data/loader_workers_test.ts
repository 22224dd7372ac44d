import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FormatError } from "../../../nn/format_error.ts";
import { type Dataset, randomSplit, Subset } from "../../../nn/data/dataset.ts";
import { LoadError } from "../../../nn/data/load_error.ts";
import { DataLoader, type DataLoaderOptions } from "../../../nn/data/loader.ts";
import open, { type Behaviour, type Sample } from "../../helpers/worker_dataset.ts";

async function epochOf<B>(loader: AsyncIterable<B>): Promise<B[]> {
  const batches: B[] = [];
  for await (const batch of loader) batches.push(batch);
  return batches;
}

function loaderOf(args: Behaviour, options: DataLoaderOptions<Sample, Sample[]>) {
  return new DataLoader<Sample>(open(args), { batchSize: 5, workers: 2, ...options });
}

Deno.test("DataLoader gives the same batches with any number of workers", async () => {
  const options = { shuffle: true, seed: 3 };
  const expected = await epochOf(loaderOf({ length: 23 }, { ...options, workers: 0 }));
  assertEquals(expected.map((batch) => batch.length), [5, 5, 5, 5, 3]);
  for (const [workers, prefetch] of [[1, 0], [2, 1], [3, 4], [7, 2]] as const) {
    const loader = loaderOf({ length: 23 }, { ...options, workers, prefetch });
    assertEquals(await epochOf(loader), expected, `${workers} workers, ${prefetch} ahead`);
  }
});

Deno.test("DataLoader's workers may keep the arrays that they give", async () => {
  const loader = loaderOf({ length: 5 }, { persistentWorkers: true, workers: 1 });
  try {
    for (let epoch = 0; epoch < 3; epoch++) {
      const [batch] = await epochOf(loader);
      for (const { nested } of batch!) assertEquals(nested[0]!.bytes, Uint8Array.of(2, 3, 4));
    }
  } finally {
    loader.close();
  }
});

Deno.test("DataLoader's workers send arrays of every type at their place", async () => {
  const loader = loaderOf({ length: 4, values: 3 }, { batchSize: 4, workers: 1 });
  const [batch] = await epochOf(loader);
  for (const [index, { values, nested: [first] }] of batch!.entries()) {
    assertEquals(values, Float32Array.of(index, index + 1 / 8, index + 2 / 8));
    assertEquals(first, { bytes: Uint8Array.of(2, 3, 4), none: null, ids: [BigInt(index)] });
    assertEquals([values.buffer === batch![0]!.values.buffer, values.byteOffset], [
      true,
      12 * index,
    ]);
    assertEquals(first!.bytes.byteOffset, 48 + 3 * index);
  }
});

Deno.test("DataLoader resumes with workers at every batch", async () => {
  const make = (workers: number) => loaderOf({ length: 12 }, { shuffle: true, seed: 5, workers });
  const whole = make(0), log: { indices: number[]; state: { epoch: number; batch: number } }[] = [];
  for (let epoch = 0; epoch < 2; epoch++) {
    for await (const batch of whole) {
      log.push({ indices: batch.map(({ index }) => index), state: whole.state() });
    }
  }
  for (let done = 0; done < log.length; done++) {
    using resumed = make(2);
    resumed.loadState(structuredClone(log[done]!.state));
    const rest: number[][] = [];
    while (resumed.epoch < 2) {
      for (const batch of await epochOf(resumed)) rest.push(batch.map(({ index }) => index));
    }
    assertEquals(rest, log.slice(done + 1).map(({ indices }) => indices), `after batch ${done}`);
  }
});

Deno.test("DataLoader's workers open the data set under subsets", async () => {
  const [train, rest] = randomSplit(open({ length: 20 }), [0.5, 0.5], { seed: 1 });
  for (const part of [train!, new Subset(rest!, [3, 1, 1])]) {
    const batches = async (workers: number) =>
      (await epochOf(new DataLoader<Sample>(part, { batchSize: 4, workers }))).flat();
    assertEquals(await batches(2), await batches(0));
  }
  const broken = new Subset(open({ length: 20, fault: "error", at: 9 }), [4, 9]);
  for (const workers of [0, 2]) {
    const error = await assertRejects(
      () => epochOf(new DataLoader<Sample>(broken, { batchSize: 2, workers })),
      LoadError,
      "Cannot load sample 1: broken sample 9",
    );
    assertEquals(error.index, 1);
  }
});

Deno.test("DataLoader ends its workers when a loop ends, is left or throws", async () => {
  // The sanitizers of Deno.test find a worker that runs on.
  const loader = loaderOf({ length: 23 }, {});
  for await (const _ of loader) break;
  assertEquals(loader.state(), { epoch: 0, batch: 1 });
  assertEquals((await epochOf(loader)).length, 4);
  await assertRejects(
    async () => {
      for await (const _ of loader) throw new Error("the consumer's own");
    },
    Error,
    "the consumer's own",
  );
  const loop = loader[Symbol.asyncIterator]();
  await loop.next();
  loader.close();
  await assertRejects(() => loop.next(), Error, "or closed");
  const other = loader[Symbol.asyncIterator]();
  await other.next();
  loader.loadState({ epoch: 7, batch: 4 });
  await assertRejects(() => other.next(), Error, "moved by");
  assertEquals((await epochOf(loader)).flat().map(({ index }) => index), [20, 21, 22]);
});

Deno.test("DataLoader keeps its workers with persistentWorkers until it is disposed", async () => {
  const counter = new SharedArrayBuffer(4);
  {
    using loader = loaderOf({ length: 10, counter }, { persistentWorkers: true, prefetch: 1 });
    for await (const _ of loader) break;
    assertEquals((await epochOf(loader)).length, 1);
    assertEquals((await epochOf(loader)).length, 2);
  }
  assertEquals(new Int32Array(counter)[0], 20, "no sample is loaded twice");
});

Deno.test("DataLoader loads no more than prefetch batches ahead with workers", async () => {
  const counter = new SharedArrayBuffer(4), loaded = new Int32Array(counter);
  const loader = loaderOf({ length: 30, counter }, { prefetch: 3 });
  let taken = 0;
  for await (const _ of loader) {
    taken++;
    const most = 5 * Math.min(taken + 3, 6);
    for (let wait = 0; loaded[0]! < most && wait < 6000; wait++) await pause();
    await pause();
    assertEquals(loaded[0], most);
  }
});

Deno.test("DataLoader names the sample that fails, the same with and without workers", async () => {
  for (const workers of [0, 1, 2]) {
    const broken = loaderOf({ length: 23, fault: "error", at: 7 }, { workers });
    const seen: Sample[][] = [];
    const error = await assertRejects(
      async () => {
        for await (const batch of broken) seen.push(batch);
      },
      LoadError,
      "Cannot load sample 7: broken sample 7",
    );
    assertEquals([seen.length, error.index, broken.state().batch], [1, 7, 1]);
    assertEquals((error.cause as Error).name, "RangeError");
    assert((error.cause as Error).stack?.includes("worker_dataset.ts"));

    const format = loaderOf({ length: 5, fault: "format", at: 2 }, { workers });
    const { cause } = await assertRejects(
      () => epochOf(format),
      LoadError,
      "Cannot load sample 2: ",
    );
    assert(cause instanceof FormatError);
    assertEquals(
      [cause.file, cause.offset, cause.expected, cause.message],
      ["2.bin", 7, "a good one", "Cannot read 2.bin: bad magic at byte 7, expected a good one"],
    );
  }
  const several: Dataset<number> = {
    length: 4,
    get: async (index) => {
      await new Promise((resolve) => setTimeout(resolve, index === 1 ? 5 : 0));
      throw new Error(`broken ${index}`);
    },
  };
  const loader = new DataLoader(new Subset(several, [1, 2, 3]), { batchSize: 3 });
  await assertRejects(() => epochOf(loader), LoadError, "Cannot load sample 0: broken 1");
});

Deno.test("DataLoader goes on after a sample failed", async () => {
  const dataset = open({ length: 6, fault: "error", at: 5 });
  const loader = new DataLoader<Sample>(dataset, { batchSize: 2, workers: 2, prefetch: 2 });
  for (let attempt = 0; attempt < 2; attempt++) {
    await assertRejects(() => epochOf(loader), LoadError, "sample 5");
    assertEquals(loader.state(), { epoch: 0, batch: 2 });
  }
  loader.loadState({ epoch: 0, batch: 1 });
  const loop = loader[Symbol.asyncIterator]();
  assertEquals((await loop.next()).value!.length, 2);
  await loop.return!();
});

Deno.test("DataLoader reports a worker that ends, and what cannot be sent", async () => {
  for (
    const [args, message] of [
      [{ fault: "later" }, "thrown from a timer"],
      [{ fault: "exit" }, "Cannot load sample 8: Cannot end a loader's worker from inside"],
      [{ fault: "close" }, "Cannot load sample 8: Cannot end a loader's worker from inside"],
      [{ fault: "function" }, "Cannot load sample 8: "],
      [{ fault: "nested" }, "Cannot start workers in a worker"],
      [{ open: "error" }, "no such data"],
      [{ open: "other" }, "has 24 samples in a worker and 23 here"],
    ] as [Partial<Behaviour>, string][]
  ) {
    const loader = loaderOf({ length: 23, at: 8, ...args }, {});
    await assertRejects(() => epochOf(loader), LoadError, message);
  }
});

Deno.test("DataLoader ends all its workers when one ends while the consumer works", async () => {
  const dataset = open({ length: 23, at: 8, fault: "later" });
  for (const persistentWorkers of [false, true]) {
    const options = { batchSize: 5, workers: 2, prefetch: 1, persistentWorkers };
    const loader = new DataLoader<Sample>(dataset, options);
    const seen: number[] = [];
    await assertRejects(
      async () => {
        for await (const [first] of loader) {
          seen.push(first!.index);
          for (let wait = 0; wait < 10; wait++) await pause(); // the second worker ends
        }
      },
      LoadError,
      "thrown from a timer",
    );
    assert(seen.length <= 3 && loader.state().batch === seen.length);
  }
});

Deno.test("DataLoader says when a worker cannot open the data set", async () => {
  const dataset = open({ length: 3 });
  const load = (worker: Dataset<Sample>["worker"]) =>
    epochOf(new DataLoader<Sample>({ ...dataset, worker }, { workers: 1 }));
  const none = new URL("./no_such_module.ts", import.meta.url);
  await assertRejects(() => load({ module: none }), LoadError, "no_such_module.ts");
  const helper = import.meta.resolve("../../helpers/close.ts");
  await assertRejects(() => load({ module: helper }), LoadError, "its default export must be");
  await assertRejects(
    () => load({ module: helper, args: () => 1 }),
    TypeError,
    "its arguments must be data",
  );
  assertThrows(
    () => new DataLoader({ length: 3, get: () => 1 }, { workers: 2 }),
    TypeError,
    "Cannot load with 2 workers: code cannot be sent to a worker",
  );
});

Deno.test("DataLoader throws for counts out of range", () => {
  for (const count of [-1, 0.5, NaN]) {
    assertThrows(() => loaderOf({ length: 3 }, { workers: count }), RangeError, "workers must be");
    assertThrows(() => loaderOf({ length: 3 }, { prefetch: count }), RangeError, "prefetch must");
  }
});

Deno.test("DataLoader counts the seconds a loop waits, not those its consumer takes", async () => {
  const now = performance.now;
  let clock = 5000;
  performance.now = () => clock;
  try {
    const slow: Dataset<number> = {
      length: 3,
      get: async (index) => {
        await pause();
        clock += 250;
        return index;
      },
    };
    const loader = new DataLoader(slow, { prefetch: 0 });
    const seen: number[] = [];
    for await (const _ of loader) {
      seen.push(loader.waitSeconds);
      clock += 4000;
    }
    assertEquals([...seen, loader.waitSeconds], [0.25, 0.5, 0.75, 0.75]);
    for await (const _ of loader) break;
    assertEquals(loader.waitSeconds, 0.25, "it starts at 0 with every loop");
  } finally {
    performance.now = now;
  }
});

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
