import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init, nn, tensor } from "../../../mod.ts";

const PAGE = "document" in globalThis;

/** What the test uses of a page's private folder, whose types Deno does not have. */
interface Folder {
  getFileHandle(name: string, options: { create: boolean }): Promise<{
    createWritable(): Promise<WritableStream<Uint8Array<ArrayBuffer>>>;
    getFile(): Promise<File>;
  }>;
}

/** What the test uses of a page's `<base>`. */
interface Base {
  href: string;
  remove(): void;
}

/** A stream that keeps what is written, or fails at the second piece. */
function keeper({ fails = false } = {}): {
  stream: WritableStream<Uint8Array<ArrayBuffer>>;
  parts: Uint8Array<ArrayBuffer>[];
  state: string;
} {
  const kept = {
    parts: [] as Uint8Array<ArrayBuffer>[],
    state: "open",
    stream: new WritableStream<Uint8Array<ArrayBuffer>>({
      write(part) {
        if (fails && kept.parts.length === 1) throw new Error("disk full");
        kept.parts.push(part);
      },
      close: () => void (kept.state = "closed"),
      abort: () => void (kept.state = "aborted"),
    }),
  };
  return kept;
}

Deno.test("what is saved to a stream is read from a Blob, with the same values", async () => {
  await init();
  const weight = tensor([[1, 2], [3, 4.5]]);
  const safetensors = keeper(), npz = keeper(), checkpoint = keeper();
  await nn.io.saveSafetensors(safetensors.stream, { weight }, { by: "a test" });
  await nn.io.saveNpz(npz.stream, { weight });
  await nn.io.saveCheckpoint(checkpoint.stream, { model: { weight }, epoch: 3 });
  for (const kept of [safetensors, npz, checkpoint]) {
    assertEquals(kept.state, "closed");
    const { arrays, file } = await nn.io.readWeights(new Blob(kept.parts));
    assertEquals([file, arrays.weight!.shape, Array.from(arrays.weight!.data as Float32Array)], [
      "bytes",
      [2, 2],
      [1, 2, 3, 4.5],
    ]);
  }
  const model = new nn.Linear(2, 2, { bias: false });
  const { file } = await nn.io.loadWeights(model, new File(safetensors.parts, "net.safetensors"));
  assertEquals([file, await model.weight.array()], ["net.safetensors", [[1, 2], [3, 4.5]]]);
  const { epoch } = await nn.io.loadCheckpoint(new Blob(checkpoint.parts));
  assertEquals(epoch, 3);
});

Deno.test("a stream that fails is aborted, and the error says why", async () => {
  await init();
  const kept = keeper({ fails: true });
  const saving = nn.io.saveSafetensors(kept.stream, { a: tensor([1]), b: tensor([2]) });
  await assertRejects(() => saving, Error, "Cannot write to a stream: disk full");
  assertEquals(kept.stream.locked, false);
  const own = keeper();
  function* parts(): Generator<Uint8Array> {
    yield Uint8Array.of(1);
    throw new Error("no more");
  }
  await assertRejects(
    () => nn.io.writeFileAtomic(own.stream, parts()),
    Error,
    "Cannot write to a stream: no more",
  );
  assertEquals([own.state, own.parts], ["aborted", [Uint8Array.of(1)]]);
});

Deno.test("openWeights() reads the tensors of a Blob one by one", async () => {
  await init();
  const [x, y] = [Float32Array.from({ length: 1 << 16 }, (_, i) => i), Float32Array.of(5, 6)];
  const bytes = nn.io.encodeSafetensors({
    x: { dtype: "F32", shape: [1 << 8, 1 << 8], data: x },
    y: { dtype: "F32", shape: [2], data: y },
  });
  const blob = new File([bytes], "two.safetensors"), { slice } = blob;
  let most = 0;
  blob.slice = (start, end) => {
    most = Math.max(most, end! - start!);
    return slice.call(blob, start, end);
  };
  using file = await nn.io.openWeights(blob);
  assertEquals([file.file, file.names.toSorted()], ["two.safetensors", ["x", "y"]]);
  assertEquals(await (await file.tensor("y")).array(), [5, 6]);
  assertEquals((await file.array("x", { start: 255 })).data, x.subarray(255 << 8));
  assertEquals(most < blob.size, true);
  assertEquals((await file.array("x")).data, x);
});

Deno.test("a stream is aborted where there is nothing to write to it", async () => {
  await init();
  const freed = tensor([1]), metadata = { at: 1 } as unknown as Record<string, string>;
  freed.dispose();
  const saves: [string, (stream: ReturnType<typeof keeper>["stream"]) => Promise<void>][] = [
    ["that was freed", (stream) => nn.io.saveSafetensors(stream, { freed })],
    ["that was freed", (stream) => nn.io.saveNpz(stream, { freed })],
    ["that was freed", (stream) => nn.io.saveCheckpoint(stream, { freed })],
    ["metadata", (stream) => nn.io.saveSafetensors(stream, {}, metadata)],
    ['at "a": it is undefined', (stream) => nn.io.saveCheckpoint(stream, { a: undefined })],
  ];
  for (const [message, save] of saves) {
    const kept = keeper();
    await assertRejects(() => save(kept.stream), Error, message);
    assertEquals([kept.state, kept.parts, kept.stream.locked], ["aborted", [], false], message);
  }
});

Deno.test("what is no source is refused with what would be one", async () => {
  const buffer = new ArrayBuffer(8);
  const wrong: [unknown, string][] = [
    [buffer, "an ArrayBuffer: it must be a path, a URL, a Blob or a Uint8Array, as is new Uint8"],
    [new Response(), "a Response: it must be a path, a URL, a Blob or a Uint8Array, as is await"],
    [new Float32Array(2), "a Float32Array: it must be a path"],
    [undefined, "undefined: it must be a path"],
  ];
  const readers: ((source: Blob) => Promise<unknown>)[] = [
    nn.io.readWeights,
    nn.io.loadSafetensors,
    nn.data.readImage,
    (source) => nn.data.readTar(source).next(),
  ];
  for (const [source, message] of wrong) {
    for (const read of readers) {
      await assertRejects(() => read(source as Blob), TypeError, `Cannot read ${message}`);
    }
  }
});

Deno.test("data sets and tables are read from a Blob", async () => {
  const idx = await nn.data.writeIdx({ shape: [2, 2], data: Uint8Array.of(1, 2, 3, 4) });
  using set = await nn.data.openIdx(new Blob([idx]));
  assertEquals(set.get(1), Uint8Array.of(3, 4));
  const file = new File(["x\na\n"], "t.csv");
  await assertRejects(
    () => nn.data.readCsv(file, { columns: { x: "integer" } }),
    nn.FormatError,
    "t.csv",
  );
});

Deno.test({
  name: "on a page a path is one below it, and files on disk are refused with what to do",
  ignore: !PAGE,
  async fn() {
    // The tests' own script is such a file, and no weights.
    const path = new URL(import.meta.url).pathname.slice(1);
    const { message } = await assertRejects(() => nn.io.readWeights(path), nn.FormatError);
    assertEquals(message.includes(import.meta.url), true, message);
    await assertRejects(() => nn.io.readWeights("none.pth"), DOMException, "answered 404");
    await assertRejects(() => nn.io.readWeights("file:///a"), Error, "a web page has no files");
    assertThrows(() => nn.io.openSafetensors("a.safetensors"), TypeError, "nn.io.openWeights()");
    const run = { experiment: "x", seed: 1, options: {} };
    const refused: [string, () => unknown][] = [
      ["write a.safetensors", () => nn.io.saveSafetensors("a.safetensors", {})],
      ["read the pictures of a", () => nn.data.openImageFolder("a/")],
      ["list a", () => nn.data.readEmnistLetters("a", "train")],
      ["unpack an archive into b", () => nn.data.extractArchive(new Blob(), "b")],
      ["write a.rec", () => new nn.data.RecordIoWriter("a.rec")],
      ["create the run folder a", () => nn.run.RunFolder.create(run, { columns: [], out: "a" })],
      ["create the run folder runs/x-", () => nn.run.RunFolder.create(run, { columns: [] })],
      ["read a/config.json", () => nn.run.RunFolder.open("a", { columns: [] })],
      ["write a/events.out.tfevents.", () => new nn.run.EventWriter("a")],
      ["listen for Ctrl-C", () => new nn.run.Interrupt()],
    ];
    for (const [what, act] of refused) {
      const { message } = await assertRejects(async () => await act(), Error, `Cannot ${what}`);
      assertEquals(message.includes("a web page has no files"), true, message);
    }
  },
});

Deno.test({
  name: "on a page a path starts where the page's links start, and no answer names CORS",
  ignore: !PAGE,
  async fn() {
    const { document } = globalThis as unknown as {
      document: { head: { prepend(node: unknown): void }; createElement(name: string): Base };
    };
    const base = Object.assign(document.createElement("base"), { href: "/below/" });
    document.head.prepend(base);
    try {
      const address = new URL("/below/a.pth", import.meta.url).href;
      await assertRejects(() => nn.io.readWeights("a.pth"), DOMException, `Cannot read ${address}`);
    } finally {
      base.remove();
    }
    const { message } = await assertRejects(() => nn.io.readWeights("http://127.0.0.1:9/a.pth"));
    assertEquals(
      /no answer \(.+\); a server elsewhere must let .* CORS$/.test(message),
      true,
      message,
    );
  },
});

Deno.test({
  name: "on a page weights are kept in its private files and loaded again",
  ignore: !PAGE,
  async fn() {
    await init();
    const { storage } = navigator as unknown as { storage: { getDirectory(): Promise<Folder> } };
    const root = await storage.getDirectory();
    const handle = await root.getFileHandle("net.safetensors", { create: true });
    const [a, b] = [new nn.Linear(3, 2), new nn.Linear(3, 2)];
    await nn.io.saveSafetensors(await handle.createWritable(), a.stateDict());
    await nn.io.loadWeights(b, await handle.getFile());
    assertEquals(await b.weight.array(), await a.weight.array());
  },
});
