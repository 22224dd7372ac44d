import { assert, assertEquals, assertRejects } from "@std/assert";
import { init } from "../../../engine/mod.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { decodeTorch, loadTorch, type LoadTorchOptions } from "../../../nn/io/torch.ts";
import { TorchTensor } from "../../../nn/io/torch_tensor.ts";
import { bitFlips, edits, readAll, truncations } from "../../helpers/fuzz.ts";
import {
  ascii,
  call,
  encode,
  global,
  ordered,
  pickle,
  Raw,
  torchStream,
  torchTensor,
  torchZip,
  tuple,
} from "../../helpers/torch_file.ts";
import { zipFile } from "../../helpers/zip_file.ts";

await init();

function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
}

const SIX = bytesOf(Float32Array.of(0, 1, 2, 3, 4, 5));

/** Tensors as `[dtype, shape, elements]` by name. */
async function load(bytes: Uint8Array, options?: LoadTorchOptions) {
  const values: [string, unknown[]][] = [];
  for (const [name, value] of Object.entries(await loadTorch(bytes, options))) {
    using tensor = value;
    const data = await tensor.data() as Float32Array;
    values.push([name, [tensor.dtype, [...tensor.shape], [...data]]]);
  }
  return Object.fromEntries(values);
}

/** The value of a file with each tensor as `[dtype, shape, elements]`. */
async function decode(bytes: Uint8Array): Promise<unknown> {
  return plain(await decodeTorch(bytes, { file: "a.pth" }));
}

function plain(value: unknown): unknown {
  if (value instanceof TorchTensor) {
    const { dtype, shape, data } = value.host();
    return [dtype, shape, Array.from(data as Float32Array)];
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([k, v]) => [k, plain(v)]));
  return value;
}

async function refuses(bytes: Uint8Array, message: string): Promise<FormatError> {
  const error = await assertRejects(() => decode(bytes), FormatError, message);
  assert(error.message.startsWith("Cannot read a.pth: "), error.message);
  return error;
}

/** The value 2 by 3 of `SIX`. */
function twoByThree(view: Partial<Parameters<typeof torchTensor>[1]> = {}): Raw {
  return torchTensor("Float", { length: 6, shape: [2, 3], strides: [3, 1], ...view });
}

Deno.test("loadTorch() reads a state dict of the zip form and of the old stream", async () => {
  const dict = ordered({
    "fc.weight": twoByThree(),
    "fc.bias": torchTensor("Float", { key: "1", length: 2, shape: [2], strides: [1] }),
    "num_batches_tracked": torchTensor("Long", { key: "2", length: 1, shape: [], strides: [] }),
  });
  const bias = bytesOf(Float32Array.of(-1, 0.5)), count = bytesOf(BigInt64Array.of(7n));
  const expected = {
    "fc.weight": ["f32", [2, 3], [0, 1, 2, 3, 4, 5]],
    "fc.bias": ["f32", [2], [-1, 0.5]],
    "num_batches_tracked": ["i32", [], [7]],
  };
  for (const zip64 of [false, true, "wide"] as const) {
    assertEquals(await load(torchZip(dict, { 0: SIX, 1: bias, 2: count }, { zip64 })), expected);
  }
  // The order of the storages is that of the list of keys.
  assertEquals(
    await load(torchStream(dict, [["2", 1, count], ["0", 6, SIX], ["1", 2, bias]])),
    expected,
  );
});

Deno.test("loadTorch() reads a path and bytes at an odd address", async () => {
  const bytes = torchZip(ordered({ w: twoByThree() }), { 0: SIX });
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    const { w } = await loadTorch(path);
    assertEquals(await w!.data(), new Float32Array(SIX.buffer));
    w!.dispose();
  } finally {
    await Deno.remove(path);
  }
  for (let shift = 1; shift < 4; shift++) {
    const shifted = new Uint8Array(bytes.length + shift);
    shifted.set(bytes, shift);
    assertEquals(await load(shifted.subarray(shift)), { w: ["f32", [2, 3], [0, 1, 2, 3, 4, 5]] });
  }
});

Deno.test("loadTorch() reads views, shared storages and expanded tensors", async () => {
  const dict = {
    whole: twoByThree(),
    transposed: twoByThree({ shape: [3, 2], strides: [1, 3] }),
    column: twoByThree({ shape: [2], strides: [3], offset: 1 }),
    row: twoByThree({ shape: [3], strides: [1], offset: 3 }),
    scalar: twoByThree({ shape: [], strides: [], offset: 5 }),
    expanded: twoByThree({ shape: [2, 2], strides: [0, 1], offset: 4 }),
    none: twoByThree({ shape: [0, 3], strides: [3, 1], offset: 6 }),
    unit: twoByThree({ shape: [1, 3], strides: [77, 1] }),
  };
  const expected = {
    whole: ["f32", [2, 3], [0, 1, 2, 3, 4, 5]],
    transposed: ["f32", [3, 2], [0, 3, 1, 4, 2, 5]],
    column: ["f32", [2], [1, 4]],
    row: ["f32", [3], [3, 4, 5]],
    scalar: ["f32", [], [5]],
    expanded: ["f32", [2, 2], [4, 5, 4, 5]],
    none: ["f32", [0, 3], []],
    unit: ["f32", [1, 3], [0, 1, 2]],
  };
  assertEquals(await load(torchZip(ordered(dict), { 0: SIX })), expected);
  assertEquals(await load(torchStream(ordered(dict), [["0", 6, SIX]])), expected);
});

Deno.test("loadTorch() converts every dtype as loadSafetensors() does", async () => {
  const cases: [string, ArrayBufferView, string, number[]][] = [
    ["Float", Float32Array.of(1.5, -0), "f32", [1.5, -0]],
    ["Double", Float64Array.of(0.1, 2), "f32", [Math.fround(0.1), 2]],
    ["Half", Float16Array.of(1.5, -2), "f16", [1.5, -2]],
    ["BFloat16", Uint16Array.of(0x3fc0, 0xc000), "f32", [1.5, -2]],
    ["Long", BigInt64Array.of(-5n, 2n ** 31n - 1n), "i32", [-5, 2 ** 31 - 1]],
    ["Int", Int32Array.of(-5, 6), "i32", [-5, 6]],
    ["Short", Int16Array.of(-5, 6), "i32", [-5, 6]],
    ["Char", Int8Array.of(-5, 6), "i32", [-5, 6]],
    ["Byte", Uint8Array.of(255, 6), "u32", [255, 6]],
    ["Bool", Uint8Array.of(1, 0), "bool", [1, 0]],
  ];
  for (const [type, data, dtype, values] of cases) {
    for (const gathered of [false, true]) {
      // Once as it lies, once gathered: each element twice.
      const view = gathered
        ? { length: 2, shape: [2, 2], strides: [1, 0] }
        : { length: 2, shape: [2], strides: [1] };
      const tensor = torchTensor(type, view);
      const expected = gathered
        ? [dtype, [2, 2], values.flatMap((value) => [value, value])]
        : [dtype, [2], values];
      assertEquals(await load(torchZip([tensor], { 0: bytesOf(data) })), { 0: expected }, type);
      const stream = torchStream([tensor], [["0", 2, bytesOf(data)]]);
      assertEquals(await load(stream), { 0: expected }, type);
    }
  }
});

Deno.test("loadTorch() refuses values and dtypes that the engine has not", async () => {
  const view = { length: 1, shape: [1], strides: [1] };
  const file = (type: string, data: ArrayBufferView) =>
    torchZip(ordered({ w: torchTensor(type, view) }), { 0: bytesOf(data) });
  const refused = (bytes: Uint8Array, message: string) =>
    assertRejects(() => loadTorch(bytes), FormatError, message);
  await refused(file("Long", BigInt64Array.of(2n ** 40n)), 'tensor "w" with value 1099511627776');
  await refused(file("Double", Float64Array.of(1e300)), 'tensor "w" with value 1e+300');
  await refused(file("ComplexFloat", Float32Array.of(1, 2)), 'tensor "w" with dtype C64');
  await refused(file("ComplexDouble", Float64Array.of(1, 2)), "torch.ComplexDoubleStorage");
});

Deno.test("decodeTorch() keeps complex numbers whole when it gathers them", async () => {
  const view = { length: 2, shape: [2], strides: [0], offset: 1 };
  const bytes = torchZip(torchTensor("ComplexFloat", view), {
    0: bytesOf(Float32Array.of(1, 2, 3, 4)),
  });
  assertEquals(await decode(bytes), ["C64", [2], [3, 4, 3, 4]]);
});

Deno.test("loadTorch() refuses tensors that are lazily conjugated or negated", async () => {
  // What torch.save writes of torch.conj(z).imag and torch.conj(z).
  const view = { length: 6, shape: [2], strides: [2], offset: 1 };
  const marked = (metadata: unknown) => torchTensor("Float", { ...view, metadata });
  const file = (tensor: Raw) => torchZip(ordered({ w: tensor }), { 0: SIX });
  for (const [name, word] of [["neg", "negated"], ["conj", "conjugated"]] as const) {
    const metadata = new Map([[name, true]]);
    const message = `lazily ${word} tensor at byte`;
    await refuses(file(marked(metadata)), message);
    await refuses(
      file(
        call(
          "torch._utils._rebuild_tensor_v3",
          new Raw(...encode(tuple("storage", global("torch.FloatStorage"), "0", "cpu", 6)), 0x51),
          1,
          tuple(2),
          tuple(2),
          false,
          ordered({}),
          global("torch.float32"),
          metadata,
        ),
      ),
      message,
    );
    await refuses(torchStream(ordered({ w: marked(metadata) }), [["0", 6, SIX]]), message);
  }
  const error = await refuses(file(marked(new Map([["neg", true]]))), "lazily negated");
  assert(error.message.includes("x.resolve_neg()"), error.message);
  for (const metadata of [null, new Map(), new Map([["neg", false]])]) {
    assertEquals(await decode(file(marked(metadata))), { w: ["F32", [2], [1, 3]] });
  }
  await refuses(file(marked(1)), 'call of "torch._utils._rebuild_tensor_v2"');
});

Deno.test("loadTorch() finds the tensors by key and takes prefixes off", async () => {
  const dict = ordered({ "module.a": twoByThree(), b: twoByThree({ shape: [1], strides: [1] }) });
  const inner = new Map<string, unknown>([["epoch", 3], ["state_dict", dict], ["lr", 0.5]]);
  const bytes = torchZip(inner, { 0: SIX });
  const names = async (bytes: Uint8Array, options: LoadTorchOptions) =>
    Object.keys(await load(bytes, options));
  assertEquals(await names(bytes, { key: "state_dict" }), ["module.a", "b"]);
  assertEquals(await names(bytes, { key: ["state_dict"], stripPrefix: "module." }), ["a", "b"]);
  const deep = torchZip(new Map([["x", inner]]), { 0: SIX });
  assertEquals(await names(deep, { key: ["x", "state_dict"] }), ["module.a", "b"]);
  assertEquals(await names(torchZip(twoByThree(), { 0: SIX }), {}), ["tensor"]);
  assertEquals(await names(torchZip([3, twoByThree()], { 0: SIX }), {}), ["1"]);
  assertEquals(await names(torchZip(ordered({})), {}), []);
  const proto = torchZip(new Map([["__proto__", twoByThree()]]), { 0: SIX });
  assertEquals(await names(proto, {}), ["__proto__"]);

  const refused = (bytes: Uint8Array, options: LoadTorchOptions, message: string) =>
    assertRejects(() => loadTorch(bytes, options), FormatError, message);
  await refused(
    bytes,
    {},
    'the key of the state dict as an option, of "epoch", "state_dict", "lr"',
  );
  await refused(bytes, { key: "model" }, 'no key "model" in the file\'s value at byte 0');
  await refused(bytes, { key: ["epoch", "x"] }, 'no key "x" in "epoch" at byte 0, expected a dict');
  await refused(bytes, { key: "epoch" }, 'no tensors in "epoch"');
  const twice = torchZip(ordered({ "m.a": twoByThree(), a: twoByThree() }), { 0: SIX });
  await refused(twice, { stripPrefix: "m." }, 'two tensors named "a"');
});

Deno.test("decodeTorch() reads all that a checkpoint holds", async () => {
  const value = new Map<string, unknown>([
    ["epoch", 3],
    ["none", null],
    ["flags", [true, false]],
    ["lr", 0.25],
    ["big", 2n ** 70n],
    ["negative", -(2n ** 60n)],
    ["betas", tuple(0.5, 1)],
    ["name", "é😀"],
    ["bytes", call("_codecs.encode", "aÿ", "latin1")],
    ["size", call("torch.Size", tuple(2, 3))],
    ["device", call("torch.device", "cuda", 0)],
    ["dtype", global("torch.float16")],
    ["counter", call("collections.Counter", new Map([["a", 2]]))],
    ["pairs", call("collections.OrderedDict", [["a", 1], ["b", 2]])],
    ["parameter", call("torch._utils._rebuild_parameter", twoByThree(), true, ordered({}))],
    [
      "subclass",
      call(
        "torch._tensor._rebuild_from_type_v2",
        global("torch._utils._rebuild_tensor_v2"),
        global("torch.nn.parameter.Parameter"),
        tuple(
          new Raw(...encode(tuple("storage", global("torch.FloatStorage"), "0", "cpu", 6)), 0x51),
          0,
          tuple(2),
          tuple(1),
        ),
        new Map(),
      ),
    ],
    [
      "untyped",
      call(
        "torch._utils._rebuild_tensor_v3",
        new Raw(
          ...encode(tuple("storage", global("torch.storage.UntypedStorage"), "0", "cpu", 24)),
          0x51,
        ),
        2,
        tuple(4),
        tuple(1),
        false,
        ordered({}),
        global("torch.float32"),
      ),
    ],
    ["short", new Raw(0x55, 2, 0x68, 0x69)],
    ["small", new Raw(0x28, 0x4b, 200, 0x4d, 1, 2, 0x74)],
    ["memo", new Raw(...encode("m"), 0x71, 5, 0x68, 5, 0x86)],
    ["one", new Raw(0x4b, 1, 0x85)],
    ["three", new Raw(0x4b, 1, 0x4b, 2, 0x4b, 3, 0x87)],
  ]);
  assertEquals(await decode(torchZip(value, { 0: SIX })), {
    epoch: 3,
    none: null,
    flags: [true, false],
    lr: 0.25,
    big: 2n ** 70n,
    negative: -(2n ** 60n),
    betas: [0.5, 1],
    name: "é😀",
    bytes: Uint8Array.of(97, 255),
    size: [2, 3],
    device: "cuda",
    dtype: "torch.float16",
    counter: { a: 2 },
    pairs: { a: 1, b: 2 },
    parameter: ["F32", [2, 3], [0, 1, 2, 3, 4, 5]],
    subclass: ["F32", [2], [0, 1]],
    untyped: ["F32", [4], [2, 3, 4, 5]],
    short: "hi",
    small: [200, 513],
    memo: ["m", "m"],
    one: [1],
    three: [1, 2, 3],
  });
});

Deno.test("decodeTorch() runs nothing: other names and opcodes are refused", async () => {
  const names = ["os.system", "posix.system", "nt.system", "sys.exit", "builtins.eval"];
  names.push("__builtin__.eval", "builtins.getattr", "torch.storage._load_from_bytes");
  names.push("torch._utils._rebuild", "torch.load", "models.Net", "collections.defaultdict");
  for (const name of names) {
    const shown = name.replace("__builtin__", "builtins");
    for (const bytes of [torchZip(call(name, "x")), torchStream(call(name, "x"))]) {
      await refuses(bytes, `name "${shown}" at byte`);
    }
    await refuses(torchZip(global(name)), `name "${shown}"`);
  }
  const allowed = new Set(
    [0x80, 0x2e, 0x63, 0x52, 0x62, 0x81, 0x51, 0x28, 0x74, 0x85, 0x86, 0x87, 0x29, 0x5d, 0x7d, 0x8f]
      .concat([0x61, 0x65, 0x73, 0x75, 0x4e, 0x88, 0x89, 0x4a, 0x4b, 0x4d, 0x8a, 0x47, 0x58, 0x55])
      .concat([0x68, 0x6a, 0x71, 0x72]),
  );
  for (let op = 0; op < 256; op++) {
    if (allowed.has(op)) continue;
    const code = new Raw(...encode("os"), ...encode("system"), op, ...ascii("os\nsystem\n"));
    await refuses(torchZip(code), `pickle opcode 0x${op.toString(16).padStart(2, "0")}`);
  }
});

Deno.test("decodeTorch() refuses pickles that make no sense", async () => {
  const cases: [Raw, string][] = [
    [new Raw(0x52), "empty stack"],
    [new Raw(0x85), "empty stack"],
    [new Raw(0x74), "no mark on the stack"],
    [new Raw(0x28, 0x4e), "values left"],
    [new Raw(0x4e, 0x4e), "values left"],
    [new Raw(0x4e, 0x28, 0x4e), "values left"],
    [new Raw(0x68, 3), "memo 3 without a value"],
    [new Raw(0x6a, 0, 0, 0, 1), "memo 16777216 without a value"],
    [new Raw(0x4e, 0x29, 0x52), "call of no function"],
    [new Raw(...encode(global("torch.Size")), 0x4e, 0x52), "arguments in no tuple"],
    [new Raw(0x4e, 0x29, 0x81), "object of no class"],
    [call("torch.Size", 3), 'call of "torch.Size"'],
    [call("torch.float32"), 'call of "torch.float32"'],
    [call("torch.FloatStorage", 3), 'call of "torch.FloatStorage"'],
    [call("torch._utils._rebuild_sparse_tensor"), "expected a dense tensor"],
    [call("_codecs.encode", "a", "utf-8"), 'call of "_codecs.encode"'],
    [call("_codecs.encode", "😀", "latin1"), "bytes beyond 255"],
    [new Raw(0x7d, 0x7d, 0x62), "attributes for no OrderedDict"],
    [new Raw(0x29, 0x4e, 0x61), "elements for no list"],
    [new Raw(0x5d, 0x4e, 0x4e, 0x73), "items for no dict"],
    [new Raw(0x7d, 0x28, 0x4e, 0x75), "key without a value"],
    [new Raw(0x7d, 0x29, 0x4e, 0x73), "dict key that is no text"],
    [new Raw(0x4e, 0x51), "persistent id that is no storage"],
    [new Raw(...encode(tuple("module", 1, 2, 3, 4)), 0x51), "persistent id that is no storage"],
    [new Raw(0x80, 6, 0x4e), "pickle protocol 6"],
    [new Raw(0x58, 255, 255, 255, 255), "end of data"],
    [new Raw(0x58, 1, 0, 0, 0, 0xff), "text not in UTF-8"],
    [new Raw(0x63, ...new Array<number>(300).fill(65)), "endless name"],
    [new Raw(0x5d, 0x71, 0, 0x68, 0, 0x61), "value that contains itself"],
    [
      new Raw(...new Array<number>(200).fill(0x5d), ...new Array<number>(199).fill(0x61)),
      "too deep",
    ],
  ];
  for (const [code, message] of cases) await refuses(torchZip(code), message);
  const head = torchStream(1).subarray(0, torchStream(1).length - pickle([]).length);
  const endless = new Uint8Array(head.length + 5_000_002).fill(0x29);
  endless.set(head.subarray(0, head.length - pickle(1).length));
  await refuses(endless, "endless pickle");
});

Deno.test("decodeTorch() refuses pickles that copy a value again and again", async () => {
  const copies = new Array<number[]>(50).fill([
    ...encode(global("_codecs.encode")),
    ...[0x28, 0x68, 0, ...encode("latin1"), 0x74, 0x52],
  ]).flat();
  const bytes = torchZip(
    new Raw(...encode("x".repeat(2000)), 0x71, 0, 0x28, ...copies, 0x74, 0x86),
  );
  await refuses(bytes, "values copied again and again");
});

Deno.test("decodeTorch() refuses tensors outside their storage", async () => {
  const file = (view: Partial<Parameters<typeof torchTensor>[1]>) =>
    torchZip(twoByThree(view), { 0: SIX });
  await refuses(file({ shape: [3, 3] }), "tensor that reaches element 8 of storage 0");
  await refuses(file({ offset: 1 }), "reaches element 6");
  await refuses(file({ offset: -1 }), "tensor of no valid size");
  await refuses(file({ strides: [3, -1] }), "tensor of no valid size");
  await refuses(file({ strides: [3] }), "tensor of no valid size");
  await refuses(file({ shape: [2, 0.5] }), "tensor of no valid size");
  await refuses(file({ shape: [2 ** 52, 2 ** 52] }), "at most 16 times the bytes of the file");
  await refuses(file({ shape: [2 ** 40], strides: [0] }), "at most 16 times");
  const many = new Array<number>(70).fill(1);
  await refuses(file({ shape: many, strides: many }), "of at most 64 dims");
  await refuses(file({ length: 7 }), 'storage "0" of 24 bytes at byte');
  await refuses(file({ length: 2 ** 50 }), 'storage "0" of 24 bytes');
  await refuses(file({ key: "9" }), 'storage "9" that is not in the archive');
  await refuses(file({ key: "../data.pkl" }), "that is not in the archive");
});

Deno.test("loadTorch() bounds what all tensors take together", async () => {
  const big = twoByThree({ shape: [40, 1], strides: [0, 1] });
  const again = new Array<number[]>(4000).fill([0x68, 0]).flat();
  const list = new Raw(0x5d, 0x28, ...encode(big), 0x71, 0, ...again, 0x65);
  const bytes = torchZip(list, { 0: SIX });
  assertEquals((await decodeTorch(bytes) as unknown[]).length, 4001);
  await assertRejects(() => loadTorch(bytes), FormatError, "tensors of 640160 bytes in all");
});

Deno.test("decodeTorch() refuses archives that are no checkpoints", async () => {
  const data = Uint8Array.from(pickle(1));
  await refuses(zipFile([{ name: "x", data }]), "0 entries NAME/data.pkl");
  await refuses(zipFile([{ name: "data.pkl", data }]), "0 entries NAME/data.pkl");
  await refuses(
    zipFile([{ name: "a/data.pkl", data }, { name: "b/data.pkl", data }]),
    "2 entries NAME/data.pkl",
  );
  await refuses(zipFile([{ name: "a/data.pkl", data, deflate: true }]), "compressed entry");
  await refuses(torchZip(1, {}, { more: { "constants.pkl": "" } }), "a TorchScript program");
  await refuses(torchZip(1, {}, { more: { "code/x.py": "" } }), "a TorchScript program");
  await refuses(torchZip(1, {}, { more: { byteorder: "big" } }), "another byte order");
  assertEquals(await decode(torchZip(1, {}, { more: { byteorder: "little" } })), 1);
});

Deno.test("decodeTorch() refuses streams that are none of the old format", async () => {
  await refuses(new Uint8Array(0), "another magic number at byte 0, expected a PyTorch file");
  await refuses(new Uint8Array(600), "another magic number");
  await refuses(torchStream(1, [], { magic: 5 }), "another magic number");
  const evaluated = call("builtins.eval", "0x1950a86a20f9469cfc6c");
  await refuses(torchStream(1, [], { magic: evaluated }), 'name "builtins.eval"');
  await refuses(torchStream(1, [], { version: 1002 }), "another version");
  await refuses(torchStream(1, [], { system: new Map([["little_endian", false]]) }), "byte order");
  await refuses(torchStream(1, [], { system: null }), "byte order");
  await refuses(torchStream(twoByThree(), []), 'no storage "0"');
  await refuses(torchStream(twoByThree(), [["0", 6, SIX]], { keys: ["0", "0"] }), "no list of");
  await refuses(torchStream(1, [["0", 6, SIX]]), 'storage "0" of no tensor');
  await refuses(torchStream(twoByThree(), [["0", 5, SIX]]), 'storage "0" of 5 elements');
  await refuses(torchStream(twoByThree(), [["0", 6, SIX.subarray(1)]]), "end of file");
  await refuses(
    torchStream(twoByThree(), [["0", 6, Uint8Array.of(...SIX, 0)]]),
    "1 trailing bytes",
  );
});

Deno.test("decodeTorch() reads storages that are views in the old format", async () => {
  const view = { length: 6, shape: [2], strides: [1], offset: 1 };
  const tensor = torchTensor("Float", view, [tuple("v", 3, 3)]);
  assertEquals(await decode(torchStream(tensor, [["0", 6, SIX]])), ["F32", [2], [4, 5]]);
  const none = torchTensor("Float", view, [null]);
  assertEquals(await decode(torchStream(none, [["0", 6, SIX]])), ["F32", [2], [1, 2]]);
  const wrong = torchTensor("Float", view, [tuple("v", 4, 3)]);
  await refuses(torchStream(wrong, [["0", 6, SIX]]), 'view of storage "0"');
});

Deno.test("decodeTorch() reads the right values or refuses damaged files", async () => {
  const value = ordered({ w: twoByThree({ shape: [3, 2], strides: [1, 3] }), n: [1, "a"] });
  const expected = { w: ["F32", [3, 2], [0, 3, 1, 4, 2, 5]], n: [1, "a"] };
  const zip = torchZip(value, { 0: SIX }), stream = torchStream(value, [["0", 6, SIX]]);
  assertEquals(await decode(zip), expected);
  assertEquals(await decode(stream), expected);
  for (const bytes of [zip, stream]) {
    assertEquals((await readAll(truncations(bytes), decode)).accepted, []);
    const flips = await readAll(bitFlips(bytes), decode);
    const random = await readAll(edits(bytes, { seed: 4, count: 2000 }), decode);
    assert(flips.refused > 8 * 100 && random.refused > 1500, `${flips.refused} ${random.refused}`);
    // The zip form has checksums: what is read is what was written.
    if (bytes !== zip) continue;
    for (const { result, how } of [...flips.accepted, ...random.accepted]) {
      assertEquals(result, expected, how);
    }
  }
});
