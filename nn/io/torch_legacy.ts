/**
 * @file The stream that PyTorch wrote before 1.6: pickles of a magic number, a version, the system, the
 * value and the keys of its storages, then the storages.
 */

import { ByteReader } from "./byte_reader.ts";
import { quote } from "./json_scan.ts";
import { type PickleFault, PickleTuple, unpickle } from "./pickle.ts";
import { callTorch, isTorchName, storageId, TorchStorage } from "./torch_tensor.ts";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;

/** What may appear in the pickles that hold no tensors. */
const PLAIN = {
  allows: () => false,
  call: () => undefined,
  persistent(_id: unknown, fault: PickleFault): never {
    throw fault("persistent id", "numbers and text");
  },
};

/**
 * The value of a file in PyTorch's old format, as the pickle machine makes it.
 *
 * @param bytes The whole file.
 * @param options `file` is the name for errors.
 * @throws {FormatError} If the file is none, is cut or damaged, or its sizes do not agree.
 */
export function decodeLegacyTorch(bytes: Uint8Array, options: { file: string }): unknown {
  const reader = new ByteReader(bytes, options);
  checkHead(reader);
  const storages = new Map<string, Root>();

  function persistent(id: unknown, fault: PickleFault): TorchStorage {
    const { key, dtype, length, rest } = storageId(id, fault);
    let root = storages.get(key);
    if (!root) {
      const storage = new TorchStorage({ key, dtype, length, fileSize: bytes.length });
      if (storage.byteLength > bytes.length) {
        throw fault(`storage ${quote(key)} of ${length} elements`, "at most the file's bytes");
      }
      root = { storage, views: [] };
      storages.set(key, root);
    }
    if (root.storage.dtype !== dtype || root.storage.length !== length) {
      throw fault(
        `storage ${quote(key)} of ${length} elements of ${dtype}`,
        `${root.storage.length} of ${root.storage.dtype} as before`,
      );
    }
    return viewOf(root, rest, fault);
  }

  const value = unpickle(reader, { allows: isTorchName, call: callTorch, persistent });
  readStorages(reader, storages);
  return value;
}

/** A storage in the file and the storages that are a part of it. */
interface Root {
  storage: TorchStorage;
  views: { storage: TorchStorage; offset: number }[];
}

function checkHead(reader: ByteReader): void {
  const magic = reader.bytes[0] === 0x80 ? unpickle(reader, PLAIN) : undefined;
  if (magic !== MAGIC) {
    throw reader.fault("another magic number", "a PyTorch file: zip, or the stream before 1.6", 0);
  }
  const at = reader.at, version = unpickle(reader, PLAIN);
  if (version !== VERSION) throw reader.fault("another version", `${VERSION} (PyTorch)`, at);
  const systemAt = reader.at, system = unpickle(reader, PLAIN);
  if (!(system instanceof Map) || system.get("little_endian") !== true) {
    throw reader.fault("tensors of another byte order", "little-endian ones (PyTorch)", systemAt);
  }
}

/** The part of a storage that a view names: `(key, offset, elements)`; `None` is the whole. */
function viewOf(root: Root, rest: readonly unknown[], fault: PickleFault): TorchStorage {
  const [view = null] = rest;
  if (view === null) return root.storage;
  const [key, offset, length] = view instanceof PickleTuple ? view.items : [];
  const valid = typeof key === "string" && isCount(offset) && isCount(length);
  if (!valid || offset + length > root.storage.length) {
    throw fault(`view of storage ${quote(root.storage.key)}`, "a part of the storage");
  }
  const { dtype, fileSize } = root.storage;
  const storage = new TorchStorage({ key, dtype, length, fileSize });
  root.views.push({ storage, offset });
  return storage;
}

/** Reads the list of keys and, in its order, the number of elements and bytes of each storage. */
function readStorages(reader: ByteReader, storages: ReadonlyMap<string, Root>): void {
  const listAt = reader.at, keys = unpickle(reader, PLAIN);
  if (!Array.isArray(keys) || new Set(keys).size !== keys.length) {
    throw reader.fault("no list of storages", "a list that names each once (PyTorch)", listAt);
  }
  const listed = new Set(keys);
  const missing = [...storages.keys()].find((key) => !listed.has(key));
  const unknown = keys.find((key) => !storages.has(key));
  if (missing !== undefined || unknown !== undefined) {
    const found = missing === undefined
      ? `storage ${quote(String(unknown))} of no tensor`
      : `no storage ${quote(missing)}`;
    throw reader.fault(found, "the storages of the tensors (PyTorch)", listAt);
  }
  for (const key of keys) {
    const { storage, views } = storages.get(key)!;
    const at = reader.at, length = reader.u64("storage length");
    if (length !== storage.length) {
      const found = `storage ${quote(storage.key)} of ${length} elements`;
      throw reader.fault(found, `${storage.length} (PyTorch)`, at);
    }
    const data = storage.bytes = reader.take(storage.byteLength, "storage");
    const size = storage.length === 0 ? 0 : storage.byteLength / storage.length;
    for (const { storage: view, offset } of views) {
      view.bytes = data.subarray(size * offset, size * (offset + view.length));
    }
  }
  if (reader.left > 0) throw reader.fault(`${reader.left} trailing bytes`, "the end of the file");
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && value as number >= 0;
}
