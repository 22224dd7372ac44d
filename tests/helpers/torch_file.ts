/** PyTorch's files for tests of the reader: pickles assembled by hand, and both forms of file. */

import { le, zipFile, type ZipFileOptions } from "./zip_file.ts";

/** Opcodes as they are. */
export class Raw {
  readonly bytes: readonly number[];
  constructor(...bytes: number[]) {
    this.bytes = bytes;
  }
}

/** The text of an opcode with a line or more after it. */
export function ascii(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}

/** The opcode GLOBAL: a class or function by its full name. */
export function global(name: string): Raw {
  const dot = name.lastIndexOf(".");
  return new Raw(...ascii(`c${name.slice(0, dot)}\n${name.slice(dot + 1)}\n`));
}

/** A tuple. */
export function tuple(...items: unknown[]): Raw {
  return new Raw(0x28, ...items.flatMap(encode), 0x74);
}

/** A function called with arguments. */
export function call(name: string, ...args: unknown[]): Raw {
  return new Raw(...encode(global(name)), ...encode(tuple(...args)), 0x52);
}

/** An OrderedDict with entries and `_metadata`, as `state_dict()` gives it. */
export function ordered(entries: Record<string, unknown>): Raw {
  const made = call("collections.OrderedDict").bytes;
  const items = Object.entries(entries).flatMap((
    [key, value],
  ) => [...encode(key), ...encode(value)]);
  const attributes = encode(new Map([["_metadata", call("collections.OrderedDict")]]));
  return new Raw(...made, 0x28, ...items, 0x75, ...attributes, 0x62);
}

/**
 * A tensor: the class of its storage, the storage's key and length, and the view; `metadata` as PyTorch writes
 * it of some tensors.
 */
export function torchTensor(
  type: string,
  view: {
    key?: string;
    length: number;
    shape: number[];
    strides: number[];
    offset?: number;
    metadata?: unknown;
  },
  more: unknown[] = [],
): Raw {
  const { key = "0", length, shape, strides, offset = 0 } = view;
  const id = tuple("storage", global(`torch.${type}Storage`), key, "cpu", length, ...more);
  return call(
    "torch._utils._rebuild_tensor_v2",
    new Raw(...encode(id), 0x51),
    offset,
    tuple(...shape),
    tuple(...strides),
    false,
    call("collections.OrderedDict"),
    ...("metadata" in view ? [view.metadata] : []),
  );
}

/** The opcodes that make a value. */
export function encode(value: unknown): number[] {
  if (value instanceof Raw) return [...value.bytes];
  if (value === null) return [0x4e];
  if (typeof value === "boolean") return [value ? 0x88 : 0x89];
  if (typeof value === "string") {
    const text = ascii(value);
    return [0x58, ...le([4, text.length]), ...text];
  }
  if (typeof value === "bigint") return [0x8a, 11, ...le([8, value], [3, value >> 64n])];
  if (typeof value === "number") {
    if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) return [0x4a, ...le([4, value])];
    if (Number.isInteger(value)) return encode(BigInt(value));
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value);
    return [0x47, ...bytes];
  }
  if (Array.isArray(value)) return [0x5d, 0x28, ...value.flatMap(encode), 0x65];
  if (value instanceof Map) return [0x7d, 0x28, ...[...value].flat().flatMap(encode), 0x75];
  throw new TypeError(`Cannot pickle ${value}`);
}

/** One whole pickle. */
export function pickle(value: unknown): number[] {
  return [0x80, 2, ...encode(value), 0x2e];
}

/** The zip form. */
export function torchZip(
  value: unknown,
  storages: Record<string, Uint8Array> = {},
  options: ZipFileOptions & { more?: Record<string, string> } = {},
): Uint8Array {
  const more = Object.entries(options.more ?? { version: "3\n" });
  return zipFile([
    { name: "archive/data.pkl", data: Uint8Array.from(pickle(value)) },
    ...Object.entries(storages).map(([key, data]) => ({ name: `archive/data/${key}`, data })),
    ...more.map(([name, text]) => ({
      name: `archive/${name}`,
      data: new TextEncoder().encode(text),
    })),
  ], { zip64: true, ...options });
}

const MAGIC = 0x1950a86a20f9469cfc6cn;

/** The stream before 1.6; `storages` are `[key, elements, bytes]`. */
export function torchStream(
  value: unknown,
  storages: [string, number, Uint8Array][] = [],
  options: { magic?: unknown; version?: unknown; system?: unknown; keys?: string[] } = {},
): Uint8Array {
  const { magic = MAGIC, version = 1001, keys = storages.map(([key]) => key) } = options;
  const { system = new Map<string, unknown>([["little_endian", true]]) } = options;
  const pickles = [magic, version, system, value, keys].flatMap(pickle);
  const data = storages.flatMap(([, length, bytes]) => [...le([8, length]), ...bytes]);
  return Uint8Array.from([...pickles, ...data]);
}
