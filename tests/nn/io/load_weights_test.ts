import { assertEquals, assertRejects } from "@std/assert";
import { init, nn, readAll, type Tensor } from "../../../mod.ts";
import { encodeNpy } from "../../../nn/io/npy.ts";
import type { HostArray } from "../../../nn/io/host_array.ts";
import { ordered, torchStream, torchTensor, torchZip } from "../../helpers/torch_file.ts";
import { le, zipFile } from "../../helpers/zip_file.ts";

await init();

const { encodeSafetensors, FormatError, loadWeights, readWeights, saveCheckpoint, WeightsError } = {
  ...nn,
  ...nn.io,
};

/** A model of a linear layer without batch statistics and one with. */
class Net extends nn.Module {
  fc1 = new nn.Linear(2, 3);
  bn = new nn.BatchNorm1d(3);
  fc = new nn.Linear(3, 2);
  override forward(x: Tensor): Tensor {
    return this.fc.forward(this.bn.forward(this.fc1.forward(x)));
  }
}

/** Numbers 0, 1, 2, … for each tensor of the model, as arrays. */
function numbers(prefix = ""): Record<string, HostArray> {
  using model = new Net();
  return Object.fromEntries(
    Object.entries(model.stateDict()).map(([name, { shape, size, dtype }]): [string, HostArray] => {
      const array: HostArray = dtype === "i32"
        ? { dtype: "I64", shape, data: BigInt64Array.of(12345n) }
        : { dtype: "F32", shape, data: Float32Array.from({ length: size }, (_, i) => i) };
      return [prefix + name, array];
    }),
  );
}

/** The state dict of {@linkcode numbers} as PyTorch pickles it, and its storages. */
function torchState(prefix = "") {
  const arrays = Object.entries(numbers(prefix));
  const value = ordered(Object.fromEntries(arrays.map(([name, { dtype, shape, data }], i) => {
    const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
    const kind = dtype === "I64" ? "Long" : "Float";
    const view = { key: String(i), length: data.length, shape: [...shape], strides };
    return [name, torchTensor(kind, view)];
  })));
  const bytes = arrays.map(([, { data }]) => new Uint8Array(data.buffer));
  return {
    value,
    storages: Object.fromEntries(bytes.map((data, i) => [String(i), data])),
    list: arrays.map(([, { data }], i): [string, number, Uint8Array] => [
      String(i),
      data.length,
      bytes[i]!,
    ]),
  };
}

/** Fails unless every tensor of a model is as {@linkcode numbers}. */
async function checkLoaded(model: nn.Module): Promise<void> {
  const expected = numbers();
  const state = model.stateDict(), names = Object.keys(state);
  for (const [i, data] of (await readAll(Object.values(state))).entries()) {
    assertEquals([names[i], ...data], [names[i], ...Array.from(expected[names[i]!]!.data, Number)]);
  }
}

Deno.test("loadWeights() loads every format into a model", async () => {
  const plain = torchState(), wrapped = torchState("module.");
  const example = new Map<string, unknown>([
    ["epoch", 3],
    ["best", torchTensor("Float", { length: 6, shape: [], strides: [] })],
    ["state_dict", wrapped.value],
    ["optimizer", new Map<string, unknown>([["state", new Map()], ["param_groups", []]])],
  ]);
  const nested = new Map([["model", new Map([["state_dict", plain.value]])]]);
  const npz = zipFile(
    Object.entries(numbers()).map(([name, array]) => ({
      name: `${name}.npy`,
      data: encodeNpy(array),
    })),
  );
  const v2 = ({ dtype, shape, data }: HostArray) => [
    ...(shape.length === 0 ? le([4, 0xf993faca]) : le([4, 0xf993fac9])),
    ...le([4, 0], [4, shape.length], ...shape.map((n): [number, number] => [8, n])),
    ...le([4, 1], [4, 0], [4, dtype === "I64" ? 6 : 0]),
    ...new Uint8Array(data.buffer),
  ];
  const named = Object.entries(numbers()).map(([name, array]) => {
    return [`${/running|tracked/.test(name) ? "aux" : "arg"}:${name}`, array] as const;
  });
  const mxnet = Uint8Array.from([
    ...le([8, 0x112], [8, 0], [8, named.length]),
    ...named.flatMap(([, array]) => v2(array)),
    ...le([8, named.length]),
    ...named.flatMap(([name]) => [...le([8, name.length]), ...new TextEncoder().encode(name)]),
  ]);
  const files: [string, Uint8Array][] = [
    ["torch", torchZip(plain.value, plain.storages)],
    ["torch", torchZip(example, wrapped.storages)],
    ["torch", torchZip(nested, plain.storages)],
    ["torch (before 1.6)", torchStream(wrapped.value, wrapped.list)],
    ["safetensors", encodeSafetensors(numbers("_orig_mod.module."))],
    ["npz", npz],
    ["mxnet", mxnet],
  ];
  for (const [format, bytes] of files) {
    using model = new Net();
    const report = await loadWeights(model, bytes);
    assertEquals([report.format, report.loaded.length], [format, 9]);
    await checkLoaded(model);
  }
});

Deno.test("loadWeights() takes a checkpoint's model, and the best weights of a run folder", async () => {
  const dir = await Deno.makeTempDir();
  try {
    using source = new Net();
    await loadWeights(source, encodeSafetensors(numbers()));
    await saveCheckpoint(`${dir}/checkpoint.safetensors`, {
      model: source.stateDict(),
      epoch: 3,
    });
    using model = new Net();
    const report = await loadWeights(model, dir);
    assertEquals([report.format, report.file], ["checkpoint", `${dir}/checkpoint.safetensors`]);
    await checkLoaded(model);
    await Deno.writeFile(`${dir}/best.safetensors`, encodeSafetensors(numbers()));
    assertEquals((await readWeights(new URL(`file://${dir}/`))).file, `${dir}/best.safetensors`);
    await Deno.mkdir(`${dir}/empty`);
    await assertRejects(
      () => readWeights(`${dir}/empty`),
      Deno.errors.NotFound,
      "has none of best",
    );
    await assertRejects(() => readWeights(`${dir}/x`), Deno.errors.NotFound, "no such file");
    await saveCheckpoint(`${dir}/other`, { epoch: 3 });
    await assertRejects(() => readWeights(`${dir}/other`), FormatError, "without model");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("loadWeights() converts to the model's dtypes", async () => {
  const arrays = numbers();
  const wide: [HostArray["dtype"], (data: Float32Array) => HostArray["data"]][] = [
    ["F16", (data) => Float16Array.from(data)],
    ["F64", (data) => Float64Array.from(data)],
    ["BF16", (data) => Uint16Array.from(new Uint32Array(data.buffer), (bits) => bits >>> 16)],
  ];
  for (const [dtype, convert] of wide) {
    const other = Object.entries(arrays).map(([name, array]): [string, HostArray] => {
      if (array.dtype !== "F32") return [name, array];
      return [name, { ...array, dtype, data: convert(array.data as Float32Array) }];
    });
    using model = new Net();
    await loadWeights(model, encodeSafetensors(Object.fromEntries(other)));
    assertEquals(model.fc.weight.dtype, "f32");
    await checkLoaded(model);
  }
});

Deno.test("loadWeights() lists what does not fit and changes nothing", async () => {
  const arrays = numbers();
  delete arrays["fc1.bias"];
  delete arrays["bn.num_batches_tracked"]; // files before torch 0.4.1 have none
  arrays["head.weight"] = { dtype: "F32", shape: [1], data: Float32Array.of(1) };
  arrays["fc.weight"] = { dtype: "F32", shape: [5, 3], data: new Float32Array(15) };
  const bytes = encodeSafetensors(arrays);
  using model = new Net();
  const before = await readAll(Object.values(model.stateDict()));
  const error = await assertRejects(
    () => loadWeights(model, bytes, { file: "a.safetensors" }),
    WeightsError,
  );
  assertEquals(
    error.message,
    "Cannot load a.safetensors into Net:\n  missing fc1.bias\n  unexpected head.weight\n" +
      "  wrong shape: fc.weight is [5, 3] and must be [2, 3]",
  );
  assertEquals(await readAll(Object.values(model.stateDict())), before);

  const except = ["fc", "head", "fc1.bias"];
  const report = await loadWeights(model, bytes, { except });
  assertEquals(report.missing.toSorted(), ["bn.num_batches_tracked", "fc1.bias"]);
  assertEquals(report.unexpected, ["head.weight"]);
  assertEquals(report.mismatched, [{ name: "fc.weight", found: [5, 3], expected: [2, 3] }]);
  assertEquals(report.loaded.length, 6);
  assertEquals([...await model.fc1.weight.data()], [0, 1, 2, 3, 4, 5]);
  const names = Object.keys(model.stateDict());
  const weight = await model.fc.weight.data();
  assertEquals(weight, before[names.indexOf("fc.weight")]);
  // A module of a name that only begins like it is none.
  await assertRejects(() => loadWeights(model, bytes, { except: ["f", "head"] }), WeightsError);
});

Deno.test("loadWeights() names ten of what hundreds lack", async () => {
  using model = nn.models.resnet18({ numClasses: 2 });
  const none = encodeSafetensors({});
  const error = await assertRejects(() => loadWeights(model, none), WeightsError);
  assertEquals(error.message.split(", ").length, 10);
  assertEquals(error.message.endsWith(" and 92 more"), true);
});

Deno.test("readWeights() knows safetensors by the header, whatever its length looks like", async () => {
  const array: HostArray = { dtype: "F32", shape: [1], data: Float32Array.of(7) };
  // As PyTorch's stream (0x80), npy (0x93 is never a multiple of 8), MXNet (0x112 neither) and zip (PK).
  for (const length of [0x80, 0x180, 0x4b50]) {
    const plain = encodeSafetensors({ x: array }, { a: "" }).length - 4 - 8;
    const bytes = encodeSafetensors({ x: array }, { a: "y".repeat(length - plain) });
    assertEquals(new DataView(bytes.buffer).getUint32(0, true), length);
    const { format, arrays } = await readWeights(bytes);
    assertEquals([format, arrays], ["safetensors", { x: array }]);
  }
});

Deno.test("readWeights() refuses what is no file of weights", async () => {
  for (const text of ["", "P", "hello, hello, hello", "\u001f\u008b"]) {
    const bytes = new TextEncoder().encode(text);
    await assertRejects(() => readWeights(bytes), FormatError, "no weights of a known format");
  }
});

Deno.test("loadWeights() reads a checkpoint whose model shares tensors, with itself and with others", async () => {
  class Tied extends nn.Module {
    emb = new nn.Embedding(5, 4);
    head = new nn.Linear(4, 5, { bias: false });
    constructor() {
      super();
      this.head.weight = this.emb.weight;
    }
    override forward(x: Tensor): Tensor {
      return x;
    }
  }
  const path = `${await Deno.makeTempDir()}/tied.ckpt`;
  const saved = new Tied();
  for (
    const state of [{ model: saved.stateDict() }, {
      best: saved.stateDict(),
      model: saved.stateDict(),
    }]
  ) {
    await nn.io.saveCheckpoint(path, state);
    const model = new Tied();
    const { loaded } = await nn.io.loadWeights(model, path);
    assertEquals(loaded, ["emb.weight", "head.weight"]);
    assertEquals(await model.head.weight.data(), await saved.emb.weight.data());
  }
  await Deno.remove(path.replace(/\/[^/]*$/, ""), { recursive: true });
});
