/** @file Tensors and storages of PyTorch's files, as views of the file's bytes. */

import type { ByteRange } from "./byte_range.ts";
import { byteSize, emptyView, type HostArray, type HostDtype, hostView } from "./host_array.ts";
import { type PickleFault, PickleGlobal, PickleTuple } from "./pickle.ts";
import { gatherElements } from "./strided.ts";

/** Storage classes of PyTorch; complex numbers of 128 bits have no host dtype. */
const STORAGES: Record<string, HostDtype> = {
  "torch.FloatStorage": "F32",
  "torch.DoubleStorage": "F64",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
  "torch.ComplexFloatStorage": "C64",
  "torch.storage.UntypedStorage": "U8",
};

/** Dtypes of PyTorch by name. */
const DTYPES: Record<string, HostDtype> = {
  "torch.float32": "F32",
  "torch.float64": "F64",
  "torch.float16": "F16",
  "torch.bfloat16": "BF16",
  "torch.int64": "I64",
  "torch.int32": "I32",
  "torch.int16": "I16",
  "torch.int8": "I8",
  "torch.uint64": "U64",
  "torch.uint32": "U32",
  "torch.uint16": "U16",
  "torch.uint8": "U8",
  "torch.bool": "BOOL",
  "torch.complex64": "C64",
  "torch.float8_e4m3fn": "F8_E4M3",
  "torch.float8_e5m2": "F8_E5M2",
  "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
  "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
};

/** Functions that PyTorch's own reader allows and this one has no tensor for. */
const NO_TENSOR = new Set([
  "_rebuild_sparse_tensor",
  "_rebuild_qtensor",
  "_rebuild_meta_tensor_no_storage",
  "_rebuild_wrapper_subclass",
  "_rebuild_device_tensor_from_numpy",
  "_rebuild_device_tensor_from_cpu_tensor",
].map((name) => `torch._utils.${name}`));

const CALLABLE = new Set([
  "torch.Size",
  "torch.Tensor",
  "torch.device",
  "torch.nn.parameter.Parameter",
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "torch._tensor._rebuild_from_type_v2",
]);

/** Most dims of a tensor. PyTorch allows 64. */
const MAX_RANK = 64;
/**
 * A tensor may be this many times larger than its file (a view made by `expand`), and all those that
 * are loaded together.
 */
export const MAX_EXPANSION = 16;

/** Memory that tensors share. */
export class TorchStorage {
  /** Its name in the file. */
  readonly key: string;
  /** Type of its elements. */
  readonly dtype: HostDtype;
  /** Number of elements. */
  readonly length: number;
  /** Size of the file, which bounds how far a view may expand. */
  readonly fileSize: number;
  /** The bytes; the old format has them after the tensors. */
  bytes: ByteRange = new Uint8Array(0);

  /** @param storage What the file says of it. */
  constructor(storage: { key: string; dtype: HostDtype; length: number; fileSize: number }) {
    this.key = storage.key;
    this.dtype = storage.dtype;
    this.length = storage.length;
    this.fileSize = storage.fileSize;
  }

  /** Bytes of all elements. */
  get byteLength(): number {
    return this.length * byteSize(this.dtype, [1])!;
  }
}

/** A tensor in a file: which elements of which storage. Its data is made when asked for. */
export class TorchTensor {
  /** Element type. */
  readonly dtype: HostDtype;
  /** Size of each dim. */
  readonly shape: readonly number[];
  readonly #storage: TorchStorage;
  readonly #strides: readonly number[];
  readonly #offset: number;

  /** @param view The elements; `strides` and `offset` count elements. Checked by the reader. */
  constructor(
    view: {
      storage: TorchStorage;
      dtype: HostDtype;
      shape: readonly number[];
      strides: readonly number[];
      offset: number;
    },
  ) {
    this.dtype = view.dtype;
    this.shape = view.shape;
    this.#storage = view.storage;
    this.#strides = view.strides;
    this.#offset = view.offset;
  }

  /** Bytes of all elements. */
  get byteLength(): number {
    return byteSize(this.dtype, this.shape)!;
  }

  /** The elements in row-major order: the file's memory where they lie so, else a copy. */
  host(): HostArray {
    const { dtype, shape, byteLength } = this;
    if (byteLength === 0) return { dtype, shape, data: emptyView(dtype) };
    const size = byteSize(dtype, [1])!, strides = this.#strides;
    const last = shape.reduce((at, size, dim) => at + (size - 1) * strides[dim]!, this.#offset);
    const part = this.#storage.bytes.subarray(size * this.#offset, size * (last + 1));
    const bytes = this.#isContiguous() ? part : gatherElements(part, { size, shape, strides });
    return { dtype, shape, data: hostView(dtype, bytes) };
  }

  /** The rows from `start` to `end - 1` of the first dim, as a view; both within it. */
  rows(start: number, end: number): TorchTensor {
    const [, ...inner] = this.shape;
    return new TorchTensor({
      storage: this.#storage,
      dtype: this.dtype,
      shape: [end - start, ...inner],
      strides: this.#strides,
      offset: this.#offset + start * this.#strides[0]!,
    });
  }

  #isContiguous(): boolean {
    let expected = 1;
    for (let dim = this.shape.length - 1; dim >= 0; dim--) {
      const size = this.shape[dim]!;
      if (size !== 1 && this.#strides[dim] !== expected) return false;
      expected *= size;
    }
    return true;
  }
}

/** Whether a name stands for something that weights are made of. */
export function isTorchName(name: string): boolean {
  return CALLABLE.has(name) || NO_TENSOR.has(name) || Object.hasOwn(STORAGES, name) ||
    Object.hasOwn(DTYPES, name) || name === "torch.ComplexDoubleStorage" ||
    name === "torch.serialization._get_layout";
}

/** The element type of a storage class. */
function storageDtype(type: unknown, fault: PickleFault): HostDtype {
  const name = type instanceof PickleGlobal ? type.name : "";
  if (Object.hasOwn(STORAGES, name)) return STORAGES[name]!;
  throw fault(`storage of class ${name || "unknown"}`, "a storage class of PyTorch");
}

/**
 * The parts of a storage's persistent id: `("storage", class, key, location, elements)`.
 *
 * @throws {FormatError} If it is no such tuple.
 */
export function storageId(
  id: unknown,
  fault: PickleFault,
): { key: string; dtype: HostDtype; length: number; rest: unknown[] } {
  const [kind, type, key, location, length, ...rest] = id instanceof PickleTuple ? id.items : [];
  const known = kind === "storage" && typeof key === "string" && typeof location === "string";
  if (!known || !Number.isSafeInteger(length) || length as number < 0) {
    throw fault("persistent id that is no storage", '("storage", class, key, location, elements)');
  }
  return { key, dtype: storageDtype(type, fault), length: length as number, rest };
}

/** What an allowed function of PyTorch makes; `undefined` if its arguments are not as PyTorch's. */
export function callTorch(name: string, args: readonly unknown[], fault: PickleFault): unknown {
  if (NO_TENSOR.has(name)) throw fault(`tensor made by ${name}`, "a dense tensor");
  const [first, second, third, fourth] = args;
  switch (name) {
    case "torch.Size":
      return first instanceof PickleTuple ? first : undefined;
    case "torch.serialization._get_layout":
      throw fault("sparse tensor", "a dense tensor");
    case "torch.device":
      return typeof first === "string" ? first : undefined;
    case "torch.nn.parameter.Parameter":
    case "torch._utils._rebuild_parameter":
    case "torch._utils._rebuild_parameter_with_state":
      return first instanceof TorchTensor ? first : undefined;
    case "torch._utils._rebuild_tensor":
    case "torch._utils._rebuild_tensor_v2":
      if (!checkMetadata(args[6], fault)) return undefined;
      return makeTensor({ storage: first, offset: second, size: third, stride: fourth }, fault);
    case "torch._utils._rebuild_tensor_v3": {
      const dtype = args[6] instanceof PickleGlobal ? args[6].name : "";
      if (!Object.hasOwn(DTYPES, dtype)) throw fault(`dtype ${dtype || "unknown"}`, "a dtype");
      if (!checkMetadata(args[7], fault)) return undefined;
      return makeTensor({
        storage: first,
        offset: second,
        size: third,
        stride: fourth,
        dtype: DTYPES[dtype]!,
      }, fault);
    }
    case "torch._tensor._rebuild_from_type_v2": {
      const tensor = second instanceof PickleGlobal &&
        ["torch.Tensor", "torch.nn.parameter.Parameter"].includes(second.name);
      const inner = first instanceof PickleGlobal && first.name !== name &&
        CALLABLE.has(first.name);
      if (!tensor || !inner || !(third instanceof PickleTuple)) return undefined;
      return callTorch(first.name, third.items, fault);
    }
    default:
      return undefined;
  }
}

/**
 * Whether it is a tensor's metadata, or none.
 *
 * @throws {FormatError} If it says that the storage holds other numbers than the tensor.
 */
function checkMetadata(metadata: unknown, fault: PickleFault): boolean {
  if (metadata === undefined || metadata === null) return true;
  if (!(metadata instanceof Map)) return false;
  for (const [name, word] of [["conj", "conjugated"], ["neg", "negated"]] as const) {
    if (metadata.has(name) && metadata.get(name) !== false) {
      throw fault(
        `lazily ${word} tensor`,
        `its numbers themselves, as x.resolve_${name}() gives them to save`,
      );
    }
  }
  return true;
}

/** A tensor whose every element lies in its storage. */
function makeTensor(
  args: {
    storage: unknown;
    offset: unknown;
    size: unknown;
    stride: unknown;
    dtype?: HostDtype;
  },
  fault: PickleFault,
): TorchTensor {
  const { storage, offset } = args;
  if (!(storage instanceof TorchStorage)) throw fault("tensor of no storage", "a storage");
  const { dtype = storage.dtype } = args;
  const shape = sizes(args.size), strides = sizes(args.stride);
  if (!isCount(offset) || !shape || !strides || shape.length !== strides.length) {
    throw fault("tensor of no valid size", `sizes and strides of at most ${MAX_RANK} dims`);
  }
  const size = byteSize(dtype, shape);
  if (size === undefined || size > MAX_EXPANSION * storage.fileSize) {
    throw fault(
      `tensor of ${dtype} [${shape.join(", ")}]`,
      `at most ${MAX_EXPANSION} times the bytes of the file`,
    );
  }
  const length = Math.floor(storage.byteLength / byteSize(dtype, [1])!);
  const last = shape.reduce((at, size, dim) => at + (size - 1) * strides[dim]!, offset);
  if (!shape.includes(0) && last >= length) {
    throw fault(
      `tensor that reaches element ${last} of storage ${storage.key}`,
      `at most ${length - 1}`,
    );
  }
  return new TorchTensor({ storage, dtype, shape, strides, offset });
}

function sizes(value: unknown): number[] | undefined {
  if (!(value instanceof PickleTuple) || value.items.length > MAX_RANK) return undefined;
  return value.items.every(isCount) ? [...value.items] as number[] : undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && value as number >= 0;
}
