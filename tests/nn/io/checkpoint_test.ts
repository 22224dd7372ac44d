import { assert, assertEquals, assertRejects } from "@std/assert";
import { init, memory, type Tensor, tensor } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { loadCheckpoint, saveCheckpoint } from "../../../nn/io/checkpoint.ts";
import { crc32 } from "../../../nn/io/gzip.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../nn/io/safetensors_format.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";

await init();

async function withDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Frees the tensors of a loaded state. */
function disposeAll(value: unknown): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if ("dispose" in value && typeof value.dispose === "function") value.dispose();
  else Object.values(value).forEach(disposeAll);
}

function refused(bytes: Uint8Array, message: string): Promise<FormatError> {
  return assertRejects(() => loadCheckpoint(bytes), FormatError, message);
}

/** A file with this metadata and two arrays, `a` of F32 and `b` of C64. */
function file(metadata: Record<string, string>): Uint8Array {
  const data = Float32Array.of(1, 2);
  return encodeSafetensors({
    a: { dtype: "F32", shape: [2], data },
    b: { dtype: "C64", shape: [1], data },
  }, metadata);
}

/** That file as a checkpoint of this state, with the right checksum. */
function checkpoint(state: string): Uint8Array {
  const bytes = new Uint8Array(Float32Array.of(1, 2).buffer);
  const entries = ['["a","F32",[2]]', '["b","C64",[1]]'].map((entry) =>
    new TextEncoder().encode(entry)
  );
  const parts = [new TextEncoder().encode(state), entries[0]!, bytes, entries[1]!, bytes];
  const crc = parts.reduce((sum, part) => crc32(part, sum), 0).toString(16).padStart(8, "0");
  return file({ "lathe.checkpoint": "1", "lathe.crc32": crc, state });
}

interface RunState {
  model: Record<string, Tensor>;
  optimizer: { groups: { lr: number; momentum: number }[]; buffers: Tensor[] };
  loader: { epoch: number; batch: number };
  history: Float64Array;
  best: number;
  name: string;
  done: boolean;
  note: null;
}

Deno.test("saveCheckpoint() and loadCheckpoint() give a run's state back", async () => {
  await withDir(async (dir) => {
    const path = `${dir}/last.ckpt`;
    const state: RunState = {
      model: {
        "features.0.weight": tensor([[1.5, -0], [NaN, 1e-40]]),
        "features.0.bias": tensor(Float16Array.of(0.5)),
      },
      optimizer: {
        groups: [{ lr: 0.1 + 0.2, momentum: 0.9 }],
        buffers: [tensor(Int32Array.of(7)), tensor(Uint32Array.of(8)), tensor([true, false])],
      },
      loader: { epoch: 3, batch: 17 },
      history: Float64Array.of(0.1, NaN, -Infinity, -0),
      best: -Infinity,
      name: "letters \u{1f600}",
      done: false,
      note: null,
    };
    await saveCheckpoint(path, state);
    const back = await loadCheckpoint<RunState>(path);
    const { model, optimizer, history, ...rest } = back;
    assertEquals(rest, {
      loader: { epoch: 3, batch: 17 },
      best: -Infinity,
      name: "letters \u{1f600}",
      done: false,
      note: null,
    });
    assertEquals(new BigUint64Array(history.buffer), new BigUint64Array(state.history.buffer));
    assertEquals(optimizer.groups, [{ lr: 0.1 + 0.2, momentum: 0.9 }]);
    assertEquals(Object.keys(model), Object.keys(state.model));
    const found = [...Object.values(model), ...optimizer.buffers];
    const expected = [...Object.values(state.model), ...state.optimizer.buffers];
    for (const [i, a] of found.entries()) {
      const b = expected[i]!;
      assertEquals([a.dtype, a.shape], [b.dtype, b.shape]);
      assertEquals(
        new Uint8Array((await a.data()).buffer),
        new Uint8Array((await b.data()).buffer),
      );
    }
    disposeAll(back);
    disposeAll(state);
  });
});

Deno.test("saveCheckpoint() keeps every typed array, and part of a buffer alone", async () => {
  await withDir(async (dir) => {
    const arrays = [
      Float64Array.of(1.5),
      Float32Array.of(NaN, 2),
      Float16Array.of(-0),
      BigInt64Array.of(-(2n ** 63n)),
      BigUint64Array.of(2n ** 64n - 1n),
      Int32Array.of(-1),
      Uint32Array.of(2 ** 32 - 1),
      Int16Array.of(-1),
      Uint16Array.of(65535),
      Int8Array.of(-1),
      Uint8Array.of(255, 0, 3),
      Uint8ClampedArray.of(255),
      new Float32Array(0),
      Int32Array.of(1, 2, 3, 4).subarray(1, 3),
    ];
    await saveCheckpoint(`${dir}/a`, { arrays });
    const back = await loadCheckpoint<{ arrays: typeof arrays }>(`${dir}/a`);
    assertEquals(back.arrays, arrays);
    back.arrays.forEach(({ buffer, byteLength }) => assertEquals(buffer.byteLength, byteLength));
  });
});

Deno.test("saveCheckpoint() writes a safetensors file under dotted names", async () => {
  await withDir(async (dir) => {
    const weight = tensor([1, 2]);
    await saveCheckpoint(`${dir}/a`, {
      model: { "0.weight": weight },
      ids: Uint8Array.of(1),
      n: 1,
    });
    const { tensors, metadata } = decodeSafetensors(await Deno.readFile(`${dir}/a`));
    assertEquals(tensors, {
      "model.0.weight": { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
      ids: { dtype: "U8", shape: [1], data: Uint8Array.of(1) },
    });
    const { "lathe.crc32": crc, ...rest } = metadata;
    assert(/^[0-9a-f]{8}$/.test(crc!));
    assertEquals(rest, {
      "lathe.checkpoint": "1",
      state: '{"model":{"0.weight":{"$tensor":"model.0.weight"}},' +
        '"ids":{"$array":"ids","type":"Uint8Array"},"n":1}',
    });
  });
});

Deno.test("saveCheckpoint() keeps paths apart that read the same, and shared parts one", async () => {
  await withDir(async (dir) => {
    const x = tensor([1]), y = tensor([2]);
    await saveCheckpoint(`${dir}/a`, { a: { "b.c": x, b: { c: y } }, "a.b": { c: x } });
    const back = await loadCheckpoint<{
      a: { "b.c": Tensor; b: { c: Tensor } };
      "a.b": { c: Tensor };
    }>(`${dir}/a`);
    assertEquals(await back.a["b.c"].item(), 1);
    assertEquals(await back.a.b.c.item(), 2);
    assert(back["a.b"].c === back.a["b.c"]);
  });
});

Deno.test("saveCheckpoint() leaves the old file when the state cannot be saved", async () => {
  await withDir(async (dir) => {
    await saveCheckpoint(`${dir}/a`, { n: 1 });
    await assertRejects(
      () => saveCheckpoint(`${dir}/a`, { n: 2, f: () => 1 }),
      TypeError,
      'at "f": it is function',
    );
    const gone = tensor([1]);
    gone.dispose();
    await assertRejects(() => saveCheckpoint(`${dir}/a`, { gone }));
    assertEquals(await loadCheckpoint(`${dir}/a`), { n: 1 });
    assertEquals([...Deno.readDirSync(dir)].length, 1);
  });
});

Deno.test("loadCheckpoint() refuses files that are no checkpoint of this version", async () => {
  await refused(file({}), "safetensors without a run's state at byte 8, expected a checkpoint");
  await refused(file({ "lathe.checkpoint": "1" }), "without a run's state");
  await refused(
    file({ "lathe.checkpoint": "2", state: "{}" }),
    'checkpoint of version "2" at byte 8, expected a checkpoint of version 1',
  );
  await refused(
    file({ "lathe.checkpoint": "1", state: "{}" }),
    'checksum "missing" at byte 8, expected "',
  );
  await refused(new TextEncoder().encode("PK\x03\x04 something else"), "header length");
});

Deno.test("loadCheckpoint() refuses a state that does not fit its file, and makes no tensor", async () => {
  const { liveBytes } = memory();
  const cases: [string, string][] = [
    ["{", "state with invalid JSON"],
    ['{"a":1,"a":2}', 'state with repeated key "a"'],
    ["[".repeat(100_000), "nested beyond"],
    ['[{"$tensor":"a"},{"$tensor":"none"}]', 'state with no tensor "none"'],
    ['[{"$tensor":"a"},{"$tensor":"toString"}]', 'no tensor "toString"'],
    ['[{"$tensor":"a"},{"$tensor":"b"}]', 'tensor "b" with dtype C64'],
    ['[{"$tensor":"a"},{"$array":"a","type":"Int32Array"}]', 'Int32Array "a" as F32'],
    ['[{"$tensor":"a"},{"$what":1}]', "unknown entry"],
  ];
  for (const [state, message] of cases) {
    const error = await refused(checkpoint(state), message);
    assert(error.message.length < 400);
  }
  assertNothingLeft(liveBytes);
  const back = await loadCheckpoint(checkpoint('{"x":{"$tensor":"a"},"n":1}'));
  assertEquals(back["n"], 1);
  disposeAll(back);
});

Deno.test("loadCheckpoint() names the file that is missing or cut", async () => {
  await withDir(async (dir) => {
    await assertRejects(() => loadCheckpoint(`${dir}/none`), Deno.errors.NotFound, "no such file");
    await saveCheckpoint(`${dir}/a`, { x: new Float32Array(100) });
    await Deno.truncate(`${dir}/a`, 300);
    await assertRejects(() => loadCheckpoint(`${dir}/a`), FormatError, `Cannot read ${dir}/a: `);
  });
});

Deno.test("loadCheckpoint() reads the right state or refuses damaged files", async () => {
  await withDir(async (dir) => {
    const x = tensor([1, 2]);
    const state = { $k: [NaN, Int8Array.of(3)], s: "text" };
    await saveCheckpoint(`${dir}/a`, { m: { x }, ...state });
    x.dispose();
    const bytes = await Deno.readFile(`${dir}/a`);
    const load = async (mutant: Uint8Array) => {
      const { m, ...rest } = await loadCheckpoint<{ m: { x: Tensor } }>(mutant);
      const elements = await m.x.data();
      m.x.dispose();
      return { elements, rest };
    };
    assertEquals((await readAll(truncations(bytes), load)).accepted, []);
    const flips = await readAll(bitFlips(bytes), load);
    const random = await readAll(edits(bytes, { seed: 3, count: 3000 }), load);
    for (const { result, how } of [...flips.accepted, ...random.accepted]) {
      assertEquals(result, { elements: Float32Array.of(1, 2), rest: state }, how);
    }
    assert(flips.refused > 8 * bytes.length - 20, `${flips.accepted.length} flips went unnoticed`);
  });
});
