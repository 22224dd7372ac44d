/** Memory that notices races: accesses of two threads to one place, one of them a write, with nothing between. */

import type { ScalarName } from "./syntax.ts";
import type { Traffic } from "./traffic.ts";

/** Who runs, and since which barrier. */
export interface Now {
  /** Number of the thread in the dispatch, counted from 1. */
  thread: number;
  /** Number of its workgroup, counted from 1. */
  group: number;
  /** Barriers passed that order workgroup memory. */
  phase: number;
  /** Barriers passed that order storage. */
  storagePhase: number;
  /** Counts accesses, if that is asked for. */
  traffic?: Traffic;
}

/** Where faults are told. */
export type Report = (fault: string) => void;

type Words = Float32Array | Int32Array | Uint32Array | Float16Array;

/** The array that holds scalars of a type. */
export function wordsOf(of: ScalarName, buffer: ArrayBuffer, offset: number, bytes: number): Words {
  if (of === "f16") return new Float16Array(buffer, offset, bytes >> 1);
  if (of === "f32") return new Float32Array(buffer, offset, bytes >> 2);
  if (of === "i32") return new Int32Array(buffer, offset, bytes >> 2);
  if (of === "u32") return new Uint32Array(buffer, offset, bytes >> 2);
  throw new TypeError(`Memory cannot hold ${of}`);
}

/** Several threads of one group; threads of several groups; atomic accesses. */
const MANY = -1, FOREIGN = -2, ATOMIC = -3;

/** Who touched each word last. */
class Shadow {
  readonly writer: Int32Array;
  readonly writeGroup: Int32Array;
  readonly writePhase: Int32Array;
  readonly reader: Int32Array;
  readonly readGroup: Int32Array;
  readonly readPhase: Int32Array;

  constructor(words: number) {
    const array = () => new Int32Array(words);
    this.writer = array();
    this.writeGroup = array();
    this.writePhase = array();
    this.reader = array();
    this.readGroup = array();
    this.readPhase = array();
  }
}

/** A variable in storage or in a workgroup, scalar by scalar. */
export class Memory {
  readonly #name: string;
  readonly #words: Words;
  readonly #now: Now;
  readonly #report: Report;
  readonly #storage: boolean;
  readonly #shadow: Shadow | null;
  /** What a read outside gives: no number, or one that is no index. */
  readonly #poison: number;

  /** @param shadow whether it can be written, and so raced for */
  constructor(
    words: Words,
    given: { name: string; now: Now; report: Report; storage: boolean; shadow: boolean },
  ) {
    this.#words = words;
    this.#name = given.name;
    this.#now = given.now;
    this.#report = given.report;
    this.#storage = given.storage;
    this.#shadow = given.shadow ? new Shadow(words.length) : null;
    this.#poison = words instanceof Uint32Array || words instanceof Int32Array ? 0x5a5a5a5a : NaN;
  }

  /** Scalars in it. */
  get length(): number {
    return this.#words.length;
  }

  /** Whether it is storage, and not a workgroup's. */
  get storage(): boolean {
    return this.#storage;
  }

  /** Bytes of a scalar. */
  get bytes(): number {
    return this.#words.BYTES_PER_ELEMENT;
  }

  load(at: number, site = 0): number {
    if (site > 0) this.#now.traffic?.see(this, site, at, 1);
    return this.#load(at);
  }

  #load(at: number): number {
    if (!(at >= 0 && at < this.#words.length)) return this.#poison;
    if (this.#shadow) this.#seeRead(this.#shadow, at);
    return this.#words[at]!;
  }

  loads(at: number, count: number, site = 0): number[] {
    if (site > 0) this.#now.traffic?.see(this, site, at, count);
    const vector = new Array<number>(count);
    for (let i = 0; i < count; i++) vector[i] = this.#load(at + i);
    return vector;
  }

  store(at: number, value: number, site = 0): void {
    if (site > 0) this.#now.traffic?.see(this, site, at, 1);
    this.#store(at, value);
  }

  #store(at: number, value: number): void {
    if (!(at >= 0 && at < this.#words.length)) {
      this.#report(`thread ${this.#now.thread - 1} writes ${this.#name} outside: word ${at}`);
      return;
    }
    if (this.#shadow) this.#seeWrite(this.#shadow, at, this.#now.thread);
    this.#words[at] = value;
  }

  stores(at: number, values: readonly number[], site = 0): void {
    if (site > 0) this.#now.traffic?.see(this, site, at, values.length);
    for (let i = 0; i < values.length; i++) this.#store(at + i, values[i]!);
  }

  atomic(at: number, change: (old: number) => number): number {
    if (!(at >= 0 && at < this.#words.length)) {
      this.#report(`thread ${this.#now.thread - 1} changes ${this.#name} outside: word ${at}`);
      return this.#poison;
    }
    if (this.#shadow) this.#seeWrite(this.#shadow, at, ATOMIC);
    const old = this.#words[at]!;
    this.#words[at] = change(old);
    return old;
  }

  #seeRead(shadow: Shadow, at: number): void {
    const { thread, group } = this.#now;
    const phase = this.#storage ? this.#now.storagePhase : this.#now.phase;
    const writer = shadow.writer[at]!;
    if (
      writer !== 0 && writer !== thread &&
      !(shadow.writeGroup[at] === group && shadow.writePhase[at]! < phase)
    ) this.#race(at, "reads", writer === ATOMIC ? "changed" : "wrote", writer);
    const reader = shadow.reader[at]!;
    if (reader === FOREIGN) return;
    if (reader !== 0 && shadow.readGroup[at] !== group) shadow.reader[at] = FOREIGN;
    else if (reader === 0 || shadow.readPhase[at]! < phase) shadow.reader[at] = thread;
    else if (reader !== thread) shadow.reader[at] = MANY;
    shadow.readGroup[at] = group;
    shadow.readPhase[at] = phase;
  }

  #seeWrite(shadow: Shadow, at: number, as: number): void {
    const { thread, group } = this.#now;
    const phase = this.#storage ? this.#now.storagePhase : this.#now.phase;
    const writer = shadow.writer[at]!;
    if (
      writer !== 0 && writer !== as &&
      !(shadow.writeGroup[at] === group && shadow.writePhase[at]! < phase)
    ) this.#race(at, "writes", writer === ATOMIC ? "changed" : "wrote", writer);
    const reader = shadow.reader[at]!;
    if (
      reader !== 0 && reader !== thread &&
      (reader === FOREIGN || shadow.readGroup[at] !== group || shadow.readPhase[at]! >= phase)
    ) this.#race(at, "writes", "read", reader);
    shadow.writer[at] = as;
    shadow.writeGroup[at] = group;
    shadow.writePhase[at] = phase;
  }

  #race(at: number, does: string, did: string, other: number): void {
    const who = other > 0
      ? `thread ${other - 1}`
      : other === MANY
      ? "another thread of its group"
      : "another thread";
    this.#report(
      `race for ${this.#name}, word ${at}: thread ${
        this.#now.thread - 1
      } ${does} what ${who} ${did}`,
    );
  }
}
