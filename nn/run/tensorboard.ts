import { checkOptions } from "../../engine/arguments.ts";
import { needFiles } from "../io/source.ts";
import { ioError, writeAllSync } from "./_files.ts";

/** Options of {@linkcode EventWriter}. */
export interface EventWriterOptions {
  /** Go on from a step: TensorBoard then forgets what older files hold from that step on. */
  resumeAt?: number;
  /** Clock in seconds since 1970. Default: the wall clock. */
  now?: () => number;
}

/**
 * Writes scalars to a TensorBoard event file: `tensorboard --logdir runs` shows them. Each start of a
 * run makes its own file.
 *
 * Format: records of u64 length, u32 masked CRC of it, data, u32 masked CRC of the data; the data is
 * an `Event` message (tensorflow/core/util/event.proto, lib/io/record_writer.h).
 *
 * @example
 * ```ts
 * import { EventWriter } from "./tensorboard.ts";
 *
 * using events = new EventWriter(await Deno.makeTempDir());
 * events.scalars(1, { "loss/train": 2.31, "loss/validation": 2.05 });
 * ```
 */
export class EventWriter implements Disposable {
  /** Path of the event file. */
  readonly path: string;
  readonly #file: Deno.FsFile;
  readonly #now: () => number;

  /** @throws {RunError} The file cannot be made. */
  constructor(dir: string, options: EventWriterOptions = {}) {
    checkOptions("make EventWriter", options, "new EventWriter(dir, { resumeAt: 5 })");
    this.#now = options.now ?? (() => Date.now() / 1000);
    const time = this.#now();
    [this.path, this.#file] = openNew(`${dir}/events.out.tfevents.${Math.floor(time)}.lathe`);
    this.#write({ wallTime: time, fileVersion: "brain.Event:2" });
    const { resumeAt } = options;
    if (resumeAt !== undefined) this.#write({ wallTime: time, step: resumeAt, sessionStart: true });
  }

  /** Appends the value of every tag at `step`, e.g. an epoch. */
  scalars(step: number, values: Readonly<Record<string, number>>): void {
    this.#write({ wallTime: this.#now(), step, scalars: values });
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }

  #write(event: TensorBoardEvent): void {
    try {
      writeAllSync(this.#file, frameRecord(encodeEvent(event)));
    } catch (error) {
      throw ioError(`write ${this.path}`, error);
    }
  }
}

/** The part of TensorFlow's `Event` message that a run needs. */
export interface TensorBoardEvent {
  /** Seconds since 1970. */
  wallTime: number;
  /** Integer >= 0. */
  step?: number;
  /** Only in the first event of a file. */
  fileVersion?: string;
  /** Values by tag, stored as f32. */
  scalars?: Readonly<Record<string, number>>;
  /** Marks a restart: events of other files from `step` on no longer count. */
  sessionStart?: boolean;
}

/**
 * An `Event` as protobuf bytes.
 *
 * @throws {RangeError} `step` is not an integer >= 0.
 */
export function encodeEvent(event: TensorBoardEvent): Uint8Array {
  const { wallTime, step = 0, fileVersion, scalars, sessionStart } = event;
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new RangeError(`Cannot write an event at step ${step}: step must be an integer >= 0`);
  }
  const out: number[] = [];
  out.push(tag(1, WIRE_FIXED64), ...float64(wallTime));
  // proto3 leaves a zero out.
  if (step !== 0) out.push(tag(2, WIRE_VARINT), ...varint(step));
  if (fileVersion !== undefined) out.push(...delimited(3, utf8(fileVersion)));
  if (scalars !== undefined) {
    const values = Object.entries(scalars).flatMap(([name, value]) =>
      delimited(1, [...delimited(1, utf8(name)), tag(2, WIRE_FIXED32), ...float32(value)])
    );
    out.push(...delimited(5, values));
  }
  // SessionLog { status = START }
  if (sessionStart) out.push(...delimited(7, [tag(1, WIRE_VARINT), 1]));
  return Uint8Array.from(out);
}

/** Data framed as one TFRecord. */
export function frameRecord(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(data.length + 16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskCrc(crc32c(bytes.subarray(0, 8))), true);
  bytes.set(data, 12);
  view.setUint32(12 + data.length, maskCrc(crc32c(data)), true);
  return bytes;
}

/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), RFC 3720 appendix B.4. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

/** A CRC rotated right by 15 bits plus a constant, so that a CRC of data with CRCs stays sound. */
export function maskCrc(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n;
});

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

function tag(field: number, wire: number): number {
  return (field << 3) | wire;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
  bytes.push(value);
  return bytes;
}

function delimited(field: number, bytes: number[]): number[] {
  return [tag(field, WIRE_BYTES), ...varint(bytes.length), ...bytes];
}

function utf8(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}

function float32(value: number): number[] {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return [...bytes];
}

function float64(value: number): number[] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, value, true);
  return [...bytes];
}

function openNew(base: string): [string, Deno.FsFile] {
  needFiles(`write ${base}`);
  for (let n = 0;; n++) {
    const path = n === 0 ? base : `${base}.${n}`;
    try {
      return [path, Deno.openSync(path, { write: true, createNew: true })];
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw ioError(`write ${path}`, error);
    }
  }
}
