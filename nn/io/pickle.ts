/**
 * @file The part of Python's pickle that weight files use, as a machine that can run nothing: names of
 * classes and functions are looked up as text in a table, and what they make is made here.
 *
 * Opcodes and names: PyTorch, torch/_weights_only_unpickler.py, whose set of opcodes this is.
 */

import type { FormatError } from "../format_error.ts";
import type { ByteReader } from "./byte_reader.ts";
import { quote } from "./json_scan.ts";

/** A Python tuple. */
export class PickleTuple {
  /** The elements. */
  readonly items: readonly unknown[];
  /** @param items The elements, which are not copied. */
  constructor(items: readonly unknown[]) {
    this.items = items;
  }
}

/** A class or function by name; nothing stands behind it. */
export class PickleGlobal {
  /** Module and name, e.g. `torch.FloatStorage`. */
  readonly name: string;
  /** @param name Module and name. */
  constructor(name: string) {
    this.name = name;
  }
}

/** A `collections.OrderedDict`. A plain dict is a `Map`, a list an array, a set a `Set`. */
export class PickleOrderedDict extends Map<unknown, unknown> {}

/** Makes an error at the opcode that is being carried out. */
export type PickleFault = (found: string, expected: string) => FormatError;

/** What the machine asks of the format that uses it. */
export interface PickleHost {
  /** Whether a name may appear, beside the built-in ones of {@linkcode unpickle}. */
  allows(name: string): boolean;
  /** The result of an allowed function that is not built in; `undefined` if it is no function. */
  call(name: string, args: readonly unknown[], fault: PickleFault): unknown;
  /** What a persistent id stands for. */
  persistent(id: unknown, fault: PickleFault): unknown;
}

/** Names that need no host. */
const BUILT_IN = new Set([
  "collections.OrderedDict",
  "collections.Counter",
  "_codecs.encode",
  "builtins.bytearray",
  "builtins.set",
  "builtins.complex",
]);

/** Longest name of a module or class. */
const MAX_NAME = 256;
/** Opcodes in a pickle: a hundred thousand tensors. The dearest, an empty dict, takes 200 bytes. */
const MAX_OPCODES = 5_000_000;

/**
 * Reads one pickle and leaves the reader after it. Integers beyond 2^53 are bigints, bytes are
 * `Uint8Array`, complex numbers are tuples. The work and the memory are in proportion to the bytes; five
 * million opcodes are the most.
 *
 * @param reader Where the pickle begins.
 * @param host What names and persistent ids mean.
 * @throws {FormatError} If an opcode or a name is not on the list, or the pickle is damaged.
 */
export function unpickle(reader: ByteReader, host: PickleHost): unknown {
  return new Machine(reader, host).run();
}

/** The stack machine; a `case` for each opcode. */
class Machine {
  readonly #reader: ByteReader;
  readonly #host: PickleHost;
  readonly #memo = new Map<number, unknown>();
  /** Stacks that a MARK set aside. */
  readonly #marks: unknown[][] = [];
  #stack: unknown[] = [];
  /** Position of the opcode. */
  #at = 0;
  /** Elements that functions may still copy: each takes a byte of the pickle at least. */
  #copies: number;

  constructor(reader: ByteReader, host: PickleHost) {
    this.#reader = reader;
    this.#host = host;
    this.#copies = reader.left;
  }

  run(): unknown {
    const reader = this.#reader;
    for (let count = 1;; count++) {
      this.#at = reader.at;
      const op = reader.u8("pickle");
      if (op === 0x2e) break; // STOP
      if (count > MAX_OPCODES) {
        throw this.#fault("endless pickle", `${MAX_OPCODES} opcodes at most`);
      }
      this.#step(op);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || this.#marks.length > 0) {
      throw this.#fault("values left at the end of the pickle", "one value");
    }
    return value;
  }

  #step(op: number): void {
    const reader = this.#reader;
    switch (op) {
      case 0x80: { // PROTO
        const version = reader.u8("protocol");
        if (version > 5) throw this.#fault(`pickle protocol ${version}`, "0 to 5");
        return;
      }
      case 0x63: // GLOBAL
        return this.#push(this.#global());
      case 0x52: // REDUCE
        return this.#reduce();
      case 0x62: // BUILD
        return this.#build();
      case 0x81: // NEWOBJ
        return this.#newObject();
      case 0x51: // BINPERSID
        return this.#push(this.#host.persistent(this.#pop(), this.#fault));
      case 0x28: // MARK
        this.#marks.push(this.#stack);
        this.#stack = [];
        return;
      case 0x74: // TUPLE
        return this.#push(new PickleTuple(this.#popMark()));
      case 0x29: // EMPTY_TUPLE
        return this.#push(new PickleTuple([]));
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#push(new PickleTuple(this.#popMany(op - 0x84)));
      case 0x5d: // EMPTY_LIST
        return this.#push([]);
      case 0x7d: // EMPTY_DICT
        return this.#push(new Map());
      case 0x8f: // EMPTY_SET
        return this.#push(new Set());
      case 0x61: // APPEND
        return this.#append([this.#pop()]);
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x73: // SETITEM
        return this.#setItems(this.#popMany(2));
      case 0x75: // SETITEMS
        return this.#setItems(this.#popMark());
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4a: // BININT
        return this.#push(reader.i32("integer"));
      case 0x4b: // BININT1
        return this.#push(reader.u8("integer"));
      case 0x4d: // BININT2
        return this.#push(reader.u16("integer"));
      case 0x8a: // LONG1
        return this.#push(this.#long());
      case 0x47: // BINFLOAT
        return this.#push(reader.f64BigEndian("float"));
      case 0x58: // BINUNICODE
        return this.#push(this.#text(reader.u32("length")));
      case 0x55: // SHORT_BINSTRING
        return this.#push(this.#text(reader.u8("length")));
      case 0x68: // BINGET
        return this.#push(this.#recall(reader.u8("memo")));
      case 0x6a: // LONG_BINGET
        return this.#push(this.#recall(reader.u32("memo")));
      case 0x71: // BINPUT
        this.#memo.set(reader.u8("memo"), this.#top());
        return;
      case 0x72: // LONG_BINPUT
        this.#memo.set(reader.u32("memo"), this.#top());
        return;
      default:
        throw this.#fault(
          `pickle opcode 0x${op.toString(16).padStart(2, "0")}`,
          "one that weights are made of",
        );
    }
  }

  readonly #fault: PickleFault = (found, expected) => {
    return this.#reader.fault(found, `${expected} (pickle)`, this.#at);
  };

  #push(value: unknown): void {
    this.#stack.push(value);
  }

  #top(): unknown {
    if (this.#stack.length === 0) throw this.#fault("empty stack", "a value");
    return this.#stack[this.#stack.length - 1];
  }

  #pop(): unknown {
    this.#top();
    return this.#stack.pop();
  }

  #popMany(count: number): unknown[] {
    if (this.#stack.length < count) throw this.#fault("empty stack", `${count} values`);
    return this.#stack.splice(-count);
  }

  /** The values above the last MARK. */
  #popMark(): unknown[] {
    const below = this.#marks.pop();
    if (!below) throw this.#fault("no mark on the stack", "one");
    const values = this.#stack;
    this.#stack = below;
    return values;
  }

  #recall(index: number): unknown {
    if (!this.#memo.has(index)) throw this.#fault(`memo ${index} without a value`, "one in use");
    return this.#memo.get(index);
  }

  #text(length: number): string {
    const bytes = this.#reader.take(length, "text");
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw this.#fault("text not in UTF-8", "text in UTF-8");
    }
  }

  /** Two's complement of up to 255 bytes, the lowest first. */
  #long(): number | bigint {
    const bytes = this.#reader.take(this.#reader.u8("length"), "integer");
    let value = 0n;
    for (let i = bytes.length - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[i]!);
    value = BigInt.asIntN(8 * bytes.length, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #global(): PickleGlobal {
    const module = this.#line().replace(/^__builtin__$/, "builtins"); // Python 2
    const name = `${module}.${this.#line()}`;
    if (!BUILT_IN.has(name) && !this.#host.allows(name)) {
      throw this.#fault(
        `name ${quote(name)}`,
        "tensors, numbers, text and containers of them: other classes are never loaded, " +
          "so save a model's state_dict(), not the model",
      );
    }
    return new PickleGlobal(name);
  }

  #line(): string {
    const reader = this.#reader, start = reader.at;
    while (reader.u8("name") !== 0x0a) {
      if (reader.at - start > MAX_NAME) throw this.#fault("endless name", "a class or function");
    }
    const length = reader.at - 1 - start;
    reader.at = start;
    const text = this.#text(length);
    reader.at++;
    return text;
  }

  #append(values: readonly unknown[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#fault("elements for no list", "a list");
    for (const value of values) list.push(value);
  }

  #setItems(items: readonly unknown[]): void {
    const dict = this.#top();
    if (!(dict instanceof Map)) throw this.#fault("items for no dict", "a dict");
    if (items.length % 2 !== 0) throw this.#fault("key without a value", "pairs");
    for (let i = 0; i < items.length; i += 2) dict.set(this.#key(items[i]), items[i + 1]);
  }

  #key(key: unknown): unknown {
    if (key === null || ["string", "number", "bigint", "boolean"].includes(typeof key)) return key;
    throw this.#fault("dict key that is no text and no number", "one that is");
  }

  #arguments(): readonly unknown[] {
    const args = this.#pop();
    if (!(args instanceof PickleTuple)) throw this.#fault("arguments in no tuple", "a tuple");
    return args.items;
  }

  #reduce(): void {
    const args = this.#arguments(), callee = this.#pop();
    if (!(callee instanceof PickleGlobal)) throw this.#fault("call of no function", "a function");
    this.#push(this.#call(callee.name, args));
  }

  /** Attributes of an OrderedDict, e.g. `_metadata` of a state dict. They are left out. */
  #build(): void {
    this.#pop();
    if (!(this.#top() instanceof PickleOrderedDict)) {
      throw this.#fault("attributes for no OrderedDict", "an OrderedDict");
    }
  }

  #newObject(): void {
    const args = this.#arguments(), type = this.#pop();
    if (!(type instanceof PickleGlobal)) throw this.#fault("object of no class", "a class");
    this.#push(this.#call(type.name, args));
  }

  #call(name: string, args: readonly unknown[]): unknown {
    const [first, second] = args;
    switch (name) {
      case "collections.OrderedDict":
        return this.#dict(new PickleOrderedDict(), args);
      case "collections.Counter":
        return this.#dict(new Map(), args);
      case "_codecs.encode":
        if (typeof first === "string" && second === "latin1") return this.#bytes(first);
        break;
      case "builtins.bytearray":
        if (args.length === 0) return new Uint8Array(0);
        if (args.length === 1 && first instanceof Uint8Array) return this.#copy(first).slice();
        break;
      case "builtins.set":
        if (args.length === 0) return new Set();
        if (args.length === 1 && Array.isArray(first)) return new Set(this.#copy(first));
        break;
      case "builtins.complex":
        if (args.length === 2 && args.every((part) => typeof part === "number")) {
          return new PickleTuple(args);
        }
        break;
      default: {
        const value = this.#host.call(name, args, this.#fault);
        if (value !== undefined) return value;
      }
    }
    throw this.#fault(`call of ${quote(name)}`, "arguments as weight files have them");
  }

  /** Fills a dict from nothing, another dict or a list of pairs. */
  #dict(dict: Map<unknown, unknown>, args: readonly unknown[]): Map<unknown, unknown> {
    const [source = []] = args;
    if (args.length > 1 || !(Array.isArray(source) || source instanceof Map)) {
      throw this.#fault("dict made of no pairs", "pairs");
    }
    for (const entry of this.#copy(source instanceof Map ? [...source] : source)) {
      const pair = entry instanceof PickleTuple ? entry.items : entry;
      if (!Array.isArray(pair) || pair.length !== 2) {
        throw this.#fault("dict made of no pairs", "pairs");
      }
      dict.set(this.#key(pair[0]), pair[1]);
    }
    return dict;
  }

  #bytes(text: string): Uint8Array {
    this.#copy(text);
    return Uint8Array.from(text, (char) => {
      const code = char.charCodeAt(0);
      if (char.length > 1 || code > 255) throw this.#fault("bytes beyond 255", "latin-1 text");
      return code;
    });
  }

  /** Counts what is about to be copied, so that a short pickle cannot copy a long value often. */
  #copy<T extends { readonly length: number }>(source: T): T {
    this.#copies -= source.length;
    if (this.#copies < 0) throw this.#fault("values copied again and again", "each one once");
    return source;
  }
}
