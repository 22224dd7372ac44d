/** @file Readers of weights, checkpoints and archives for the fuzzer. */

import { zipSync } from "npm:fflate@0.8.3";
import { gunzip, gzip } from "../../nn/io/gzip.ts";
import { byteSize, type HostArray } from "../../nn/io/host_array.ts";
import { decodeCheckpoint, stateChecksum } from "../../nn/io/checkpoint.ts";
import { splitState } from "../../nn/io/checkpoint_state.ts";
import { decodeMxnetParams } from "../../nn/io/mxnet.ts";
import { decodeNpy, decodeNpz, encodeNpy } from "../../nn/io/npy.ts";
import { type EngineArray, toEngine } from "../../nn/io/safetensors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../nn/io/safetensors_format.ts";
import { readWeights } from "../../nn/io/any_weights.ts";
import { decodeTorch, openZipTorch } from "../../nn/io/torch.ts";
import { MAX_EXPANSION, TorchTensor } from "../../nn/io/torch_tensor.ts";
import { openWeights } from "../../nn/io/weight_file.ts";
import { readZip, readZipEntry } from "../../nn/io/zip.ts";
import {
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
} from "../helpers/torch_file.ts";
import { le, zipFile } from "../helpers/zip_file.ts";
import type { Reader, Seed } from "./readers.ts";

const SIX = Float32Array.of(1, -2, 3.5, NaN, Infinity, 6);
/** What deflate can expand to: a byte becomes 1032. */
const DEFLATE = 1032;

/** Readers of weights. */
export function weightReaders(): Reader[] {
  return [
    { name: "safetensors", seeds: safetensorsSeeds, read: readSafetensors, expansion: 8 },
    { name: "checkpoint", seeds: checkpointSeeds, read: readCheckpoint, expansion: 24 },
    { name: "npy", seeds: npySeeds, read: (bytes) => checkArray(decodeNpy(bytes)), expansion: 8 },
    { name: "npz", seeds: npzSeeds, read: readNpz, expansion: 10 * DEFLATE },
    { name: "torch", seeds: torchSeeds, read: readTorch, expansion: 4 * MAX_EXPANSION },
    { name: "torch-legacy", seeds: legacySeeds, read: readTorch, expansion: 4 * MAX_EXPANSION },
    { name: "torch-lazy", seeds: torchSeeds, read: readLazily, expansion: 4 * MAX_EXPANSION },
    { name: "weights-parts", seeds: partsSeeds, read: readParts, expansion: 4 * MAX_EXPANSION },
    { name: "weights", seeds: anySeeds, read: readAny, expansion: 10 * DEFLATE },
    { name: "mxnet", seeds: mxnetSeeds, read: readMxnet, expansion: 8 },
    { name: "zip", seeds: zipSeeds, read: readWholeZip, expansion: 7 * DEFLATE },
    { name: "gzip", seeds: gzipSeeds, read: readWholeGzip, expansion: 10 * DEFLATE },
  ];
}

function encodeText(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The bytes of an array have the size that its shape asks for, and convert or are refused. */
function checkArray(array: HostArray): void {
  const { dtype, shape, data } = array;
  const size = byteSize(dtype, shape);
  if (data.byteLength !== size) {
    throw new Error(`${data.byteLength} bytes for ${dtype} [${shape}], which takes ${size}`);
  }
  // The formats with dtypes of their own allow what has no tensor.
  if (!/^(C64|F8|F6|F4)/.test(dtype)) checkEngine(toEngine(array, { name: "x", file: "bytes" }));
}

function checkEngine({ shape, data }: EngineArray): EngineArray {
  const size = shape.reduce((product, dim) => product * dim, 1);
  if (data.length !== size) throw new Error(`${data.length} elements for [${shape}]`);
  return { dtype: "f32", shape, data };
}

function readSafetensors(bytes: Uint8Array): void {
  Object.values(decodeSafetensors(bytes).tensors).forEach(checkArray);
}

function readCheckpoint(bytes: Uint8Array): void {
  decodeCheckpoint(bytes, { file: "bytes", tensor: checkEngine });
}

async function readNpz(bytes: Uint8Array): Promise<void> {
  Object.values(await decodeNpz(bytes)).forEach(checkArray);
}

function readMxnet(bytes: Uint8Array): void {
  Object.values(decodeMxnetParams(bytes)).forEach(checkArray);
}

async function readTorch(bytes: Uint8Array): Promise<void> {
  readTensors(await decodeTorch(bytes), bytes);
}

/** As a file on disk is read, of which a part is asked for at a time. */
async function readLazily(bytes: Uint8Array): Promise<void> {
  readTensors(await openZipTorch(bytes, { file: "bytes" }), bytes);
}

/** As what is elsewhere is read, of which parts are fetched. */
async function readParts(bytes: Uint8Array): Promise<void> {
  using file = await openWeights(new Blob([bytes.slice()]));
  let left = MAX_EXPANSION * bytes.length;
  for (const name of file.names) {
    if ((left -= file.info(name).byteLength) < 0) return;
    checkArray(await file.array(name));
  }
}

/** Files of both formats that are read in parts. */
function partsSeeds(): Seed[] {
  return [...safetensorsSeeds(), ...torchSeeds()];
}

async function readAny(bytes: Uint8Array): Promise<void> {
  const { arrays } = await readWeights(bytes);
  for (const { dtype, shape, data } of Object.values(arrays)) {
    if (data.byteLength !== byteSize(dtype, shape)) {
      throw new Error("Another size than the shape's");
    }
  }
}

/** A file of each format, told by its content. */
async function anySeeds(): Promise<Seed[]> {
  const kinds = [safetensorsSeeds, checkpointSeeds, npySeeds, npzSeeds, torchSeeds, legacySeeds];
  const seeds = await Promise.all([...kinds, mxnetSeeds].map((make) => make()));
  return seeds.flatMap((list) => list.filter(({ hostile }) => !hostile).slice(0, 2));
}

/** Reads the tensors of a value until they take what `loadTorch` allows. */
function readTensors(root: unknown, bytes: Uint8Array): void {
  const open = [root];
  const seen = new Set<unknown>();
  let left = MAX_EXPANSION * bytes.length;
  while (open.length > 0) {
    const value = open.pop();
    if (seen.has(value)) continue;
    if (typeof value === "object") seen.add(value);
    if (value instanceof TorchTensor) {
      if ((left -= value.byteLength) < 0) return;
      checkArray(value.host());
    } else if (value instanceof Map) open.push(...value.values());
    else if (Array.isArray(value) || value instanceof Set) { for (const v of value) open.push(v); }
  }
}

async function readWholeZip(bytes: Uint8Array): Promise<void> {
  for (const entry of readZip(bytes, { file: "bytes" }).values()) {
    const data = await readZipEntry(bytes, entry, { file: "bytes" });
    if (data.length !== entry.size) throw new Error(`${data.length} bytes of ${entry.size}`);
  }
}

async function readWholeGzip(bytes: Uint8Array): Promise<void> {
  let total = 0;
  await gunzip(bytes, { file: "bytes", sink: (piece) => total += piece.length });
  if (total > 1032 * bytes.length) throw new Error(`${total} bytes from ${bytes.length}`);
}

/** A safetensors file with a header and data as they are. */
function safetensorsFile(header: Uint8Array, data: Uint8Array): Uint8Array {
  return Uint8Array.from([...le([8, header.length]), ...header, ...data]);
}

function safetensorsSeeds(): Seed[] {
  const bytes = new Uint8Array(24).fill(1);
  const small = encodeSafetensors({ x: { dtype: "F32", shape: [2, 3], data: SIX } });
  const mixed = encodeSafetensors({
    "a.weight": { dtype: "BF16", shape: [4], data: new Uint16Array(4) },
    "a.bias": { dtype: "I64", shape: [], data: BigInt64Array.of(-1n) },
    "a.mask": { dtype: "BOOL", shape: [3], data: new Uint8Array(3) },
    "": { dtype: "F64", shape: [0, 5], data: new Float64Array(0) },
    "f4": { dtype: "F4", shape: [2], data: new Uint8Array(1) },
  }, { format: "pt", "\u{1f600}": "x" });
  const wrap = (header: Uint8Array) => safetensorsFile(header, bytes);
  const header = (text: string): Seed => ({ content: encodeText(text), wrap });
  const tensor = (shape: string, end: string | number = 24) =>
    `{"a":{"dtype":"F32","shape":[${shape}],"data_offsets":[0,${end}]}}`;
  return [
    { content: small },
    { content: mixed },
    header(tensor("2,3")),
    { ...header(tensor("9223372036854775808", "36893488147419103232")), hostile: true },
    { ...header(tensor("4294967296,4294967296,0,9", 0)), hostile: true },
    { ...header(tensor("NaN")), hostile: true },
    { ...header(tensor("1e400")), hostile: true },
    { ...header("[".repeat(30_000)), hostile: true },
    { ...header(`{"a":`.repeat(10_000)), hostile: true },
    { content: Uint8Array.from([...le([8, 2n ** 63n]), 0x7b, 0x7d]), hostile: true },
    { content: Uint8Array.from([...le([8, 100_000_000]), 0x7b, 0x7d]), hostile: true },
  ];
}

function checkpointSeeds(): Seed[] {
  const state = {
    model: { weight: SIX },
    epoch: 3,
    best: -Infinity,
    history: [{ loss: NaN, $x: -0 }],
    flags: Uint8ClampedArray.of(1, 2),
  };
  const { json, arrays } = splitState(state, (value): value is object => false && !!value);
  const stored: Record<string, HostArray> = {
    "model.weight": { dtype: "F32", shape: [6], data: SIX },
    "history.x": { dtype: "I32", shape: [2], data: Int32Array.of(1, 2) },
    flags: { dtype: "U8", shape: [2], data: Uint8Array.of(1, 2) },
  };
  if (!arrays.has("model.weight")) throw new Error("The seed lost its array");
  const text = JSON.stringify({ ...json as object, more: { $tensor: "history.x" } });
  const wrap = (content: Uint8Array) => {
    const text = new TextDecoder().decode(content);
    const sum = stateChecksum(text, stored);
    return encodeSafetensors(stored, {
      "lathe.checkpoint": "1",
      "lathe.crc32": sum,
      state: text.toWellFormed(),
    });
  };
  const content = encodeText(text);
  return [
    { content: wrap(content) },
    { content, wrap },
    { content: encodeText(`{"a":{"$number":"1"}}`), wrap, hostile: true },
    { content: encodeText(`{"a":NaN}`), wrap, hostile: true },
    { content: encodeText(`{"a":{"$tensor":"__proto__"}}`), wrap, hostile: true },
    { content: encodeText(`${"[".repeat(20_000)}${"]".repeat(20_000)}`), wrap, hostile: true },
  ];
}

/** A `.npy` file with a header as it is. */
function npyFile(header: string, data: ArrayLike<number>): Uint8Array {
  const text = encodeText(header);
  return Uint8Array.from([
    ...[0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0],
    ...le([2, text.length]),
    ...text,
    ...Array.from(data),
  ]);
}

function npySeeds(): Seed[] {
  const head = (type: string, shape: string, fortran = "False") =>
    `{'descr': '${type}', 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;
  const data = new Uint8Array(24).fill(3);
  const wrap = (content: Uint8Array) => npyFile(new TextDecoder("latin1").decode(content), data);
  const header = (text: string): Seed => ({ content: encodeText(text), wrap });
  return [
    { content: encodeNpy({ dtype: "F32", shape: [2, 3], data: SIX }) },
    { content: npyFile(head(">f8", "(3, 1)", "True"), data) },
    header(head("<i2", "(4, 3)", "True")),
    header(head("|b1", "(24,)")),
    { ...header(head("|O", "(3,)")), hostile: true },
    { ...header(head("<f4", "(9223372036854775808,)")), hostile: true },
    { ...header(head("<f4", "(9223372036854775807, 0)")), hostile: true },
    {
      ...header(`{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}`),
      hostile: true,
    },
    { ...header(`${"(".repeat(20_000)}`), hostile: true },
  ];
}

function npzSeeds(): Seed[] {
  const npy = encodeNpy({ dtype: "F32", shape: [2, 3], data: SIX });
  const zeros = encodeNpy({ dtype: "U8", shape: [300_000], data: new Uint8Array(300_000) });
  const one = (deflate: boolean) => (data: Uint8Array) =>
    zipFile([{ name: "x.npy", data, deflate }]);
  const bomb = zipSync({ "x.npy": zeros }, { level: 9 });
  const named = (name: string): Seed => ({
    content: zipFile([{ name, data: npy }]),
    hostile: true,
  });
  return [
    { content: zipFile([{ name: "x.npy", data: npy }, { name: "y.npy", data: npy }]) },
    { content: zipFile([{ name: "x.npy", data: npy, deflate: true }], { zip64: "wide" }) },
    { content: npy, wrap: one(false) },
    { content: npy, wrap: one(true) },
    // 1000 times its size, which is within what deflate can do and the directory says.
    { content: bomb },
    {
      content: zipFile([{ name: "x.npy", data: npy, deflate: true, lies: { size: 2 ** 32 - 2 } }]),
      hostile: true,
    },
    { content: zipFile([{ name: "x.npy", data: npy, lies: { size: 1 } }]), hostile: true },
    named("x.txt"),
    named("../../x"),
  ];
}

/** A state dict of two tensors that share a storage, and what surrounds it in a checkpoint. */
function torchValue(): unknown {
  const view = { length: 6, shape: [2, 2], strides: [3, 1], offset: 1 };
  return new Map<string, unknown>([
    [
      "state_dict",
      ordered({
        "module.a.weight": torchTensor("Float", { length: 6, shape: [2, 3], strides: [3, 1] }),
        "module.a.bias": torchTensor("Float", view),
        "n": torchTensor("Long", { key: "1", length: 1, shape: [], strides: [] }),
      }),
    ],
    ["epoch", 3],
    ["best", -0.5],
    ["args", tuple("x", null, true, 2n ** 70n, [1, [2]])],
    ["seen", call("builtins.set", [1, 2])],
  ]);
}

/** Pickles that no file of weights is. */
function hostilePickles(): number[][] {
  const cyclicList = [0x5d, 0x71, 0, 0x68, 0, 0x61]; // a list put into itself
  const deep = Array.from({ length: 5000 }, () => 0x5d);
  const deepTuple = [0x29, ...Array.from({ length: 5000 }, () => 0x85)];
  const close = Array.from({ length: 4999 }, () => 0x61);
  const huge = (shape: (number | bigint)[]) =>
    encode(call(
      "torch._utils._rebuild_tensor_v2",
      new Raw(
        ...encode(tuple("storage", global("torch.FloatStorage"), "0", "cpu", 6)),
        0x51,
      ),
      0,
      tuple(...shape),
      tuple(...shape.map(() => 0)),
      false,
      call("collections.OrderedDict"),
    ));
  return [
    cyclicList,
    [...deep, ...close],
    deepTuple,
    encode(call("os.system", "true")),
    encode(call("builtins.eval", "1")),
    encode(call("torch.load", "x")),
    huge([2n ** 63n]),
    huge([2 ** 40]),
    huge([2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1]),
    [0x8c, 1, 0x61, 0x94], // opcodes of protocol 4
    [0x49, 0x31, 0x0a], // INT, of protocol 0
    [0x28], // a mark alone
    [0x68, 9], // a memo that was never set
  ];
}

const STORAGES = {
  "0": new Uint8Array(SIX.buffer),
  "1": Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0),
};

function torchSeeds(): Seed[] {
  /** A zip form around a pickle. */
  function wrap(content: Uint8Array): Uint8Array {
    return zipFile([
      { name: "a/data.pkl", data: content },
      ...Object.entries(STORAGES).map(([key, data]) => ({ name: `a/data/${key}`, data })),
    ], { zip64: true });
  }
  const good = Uint8Array.from(pickle(torchValue()));
  return [
    {
      content: torchZip(torchValue(), STORAGES, { more: { version: "3\n", byteorder: "little" } }),
    },
    { content: good, wrap },
    {
      content: Uint8Array.from(
        pickle(torchTensor("Float", { length: 6, shape: [6], strides: [1] })),
      ),
      wrap,
    },
    ...hostilePickles().map((ops) => ({
      content: Uint8Array.from([0x80, 2, ...ops, 0x2e]),
      wrap,
      hostile: true,
    })),
  ];
}

function legacySeeds(): Seed[] {
  const storages: [string, number, Uint8Array][] = [["0", 6, STORAGES["0"]], [
    "1",
    1,
    STORAGES["1"],
  ]];
  const whole = torchStream(torchValue(), storages);
  const value = pickle(torchValue());
  const start = indexOf(whole, value), end = start + value.length;
  /** The stream around the pickle of the value. */
  function wrap(content: Uint8Array): Uint8Array {
    return Uint8Array.from([...whole.subarray(0, start), ...content, ...whole.subarray(end)]);
  }
  return [
    { content: whole },
    { content: Uint8Array.from(value), wrap },
    ...hostilePickles().map((ops) => ({
      content: Uint8Array.from([0x80, 2, ...ops, 0x2e]),
      wrap,
      hostile: true,
    })),
    { content: torchStream(torchValue(), storages, { version: 1002 }), hostile: true },
  ];
}

function indexOf(bytes: Uint8Array, part: readonly number[]): number {
  for (let at = 0; at < bytes.length; at++) {
    if (part.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  throw new Error("The part is not there");
}

function mxnetSeeds(): Seed[] {
  const data = [...new Uint8Array(SIX.buffer)];
  const context = le([4, 1], [4, 0]);
  const v0 = [...le([4, 2], [4, 2], [4, 3]), ...context, ...le([4, 0]), ...data];
  const v1 = [...le([4, 0xf993fac8], [4, 1], [8, 6]), ...context, ...le([4, 0]), ...data];
  const v2 = [...le([4, 0xf993fac9], [4, 0], [4, 1], [8, 6]), ...context, ...le([4, 0]), ...data];
  const v3 = [...le([4, 0xf993faca], [4, 0], [4, 0]), ...context, ...le([4, 3]), 9];
  const file = (arrays: number[][], names: string[]) =>
    Uint8Array.from([
      ...le([8, 0x112], [8, 0], [8, arrays.length]),
      ...arrays.flat(),
      ...le([8, names.length]),
      ...names.flatMap((name) => [...le([8, name.length]), ...encodeText(name)]),
    ]);
  const huge = [...le([4, 0xf993fac9], [4, 0], [4, 2], [8, 2n ** 63n], [8, 0]), ...context];
  return [
    { content: file([v0, v1, v2, v3], ["arg:a", "aux:b", "c", "d"]) },
    { content: file([v2], []) },
    { content: file([v0], ["x"]) },
    { content: file([[...huge, ...le([4, 0])]], ["x"]), hostile: true },
    {
      content: Uint8Array.from(le([8, 0x112], [8, 0], [8, 2n ** 63n])),
      hostile: true,
    },
  ];
}

function zipSeeds(): Seed[] {
  const data = encodeText("the same words and the same words again");
  const zeros = new Uint8Array(200_000);
  const two = [{ name: "a/b", data }, { name: "c", data, deflate: true }];
  const nested = zipSync({ "x": zipSync({ "y": zeros }, { level: 9 }) }, { level: 9 });
  return [
    { content: zipFile(two) },
    { content: zipFile(two, { zip64: true, comment: "PK\x05\x06" }) },
    { content: zipFile(two, { zip64: "wide" }) },
    { content: zipSync({ "zeros": zeros }, { level: 9 }) },
    { content: nested },
    // Two names for one entry's bytes, as overlapping zip bombs have.
    {
      content: zipFile([{ name: "a", data }, {
        name: "b",
        data,
        lies: { offset: 0 },
        localName: "a",
      }]),
      hostile: true,
    },
    { content: zipFile([{ name: "c", data, deflate: true, lies: { size: 1e9 } }]), hostile: true },
    { content: zipFile([{ name: "c", data, lies: { flags: 1 } }]), hostile: true },
    { content: zipFile([{ name: "c", data, lies: { method: 14 } }]), hostile: true },
    { content: zipFile([{ name: "c", data, lies: { crc: 0 } }]), hostile: true },
  ];
}

async function gzipSeeds(): Promise<Seed[]> {
  const text = await gzip(encodeText("the same words and the same words again"));
  const zeros = await gzip(new Uint8Array(300_000));
  return [
    { content: text },
    { content: Uint8Array.from([...text, ...text]) },
    { content: zeros },
    { content: text.slice(0, -8), hostile: true },
    { content: Uint8Array.from([...text, 1]), hostile: true },
  ];
}
