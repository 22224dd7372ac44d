/**
 * Counts what the loads and stores of a kernel cost: the n-th access of the threads of one subgroup at one place of the
 * text is one request, as hardware issues it.
 *
 *   storage             sectors of 32 bytes that a request touches
 *   workgroup memory    turns that its 32 banks of 4 bytes take; requests of 16 bytes a thread go by 8 threads, of 8 by 16
 *
 * A turn is 128 bytes, four sectors or all banks: an NVIDIA multiprocessor does one a cycle. Where hardware hands one
 * address to many lanes in less than this counts, it is faster. What matrix units load by themselves is not counted.
 */

import type { Memory, Now } from "./memory.ts";

/** What was counted. */
export interface Turns {
  /** Sectors of storage, and those that the bytes would fill. */
  readonly sectors: number;
  readonly fewestSectors: number;
  /** Turns of workgroup memory, and those without conflicts. */
  readonly turns: number;
  readonly fewestTurns: number;
}

/** Repeats of an access that are looked at; the others are taken for alike. */
const MOST_REPEATS = 40;

interface Request {
  readonly memory: Memory;
  readonly site: number;
  /** First byte and bytes of each thread. */
  readonly lanes: (readonly [number, number])[];
}

/** Counts the accesses of some workgroups. */
export class Traffic {
  readonly #now: Now;
  readonly #subgroupSize: number;
  #first = 0;
  #groups = 0;
  #repeats: Map<number, number>[] = [];
  #requests = new Map<string, Request>();
  readonly #sums = { sectors: 0, fewestSectors: 0, turns: 0, fewestTurns: 0 };

  constructor(now: Now, subgroupSize: number) {
    this.#now = now;
    this.#subgroupSize = subgroupSize;
  }

  /** A workgroup begins, whose first thread is `first`. */
  begin(first: number): void {
    this.end();
    this.#first = first;
    this.#groups++;
  }

  /** A thread accesses `count` scalars from `at` on. */
  see(memory: Memory, site: number, at: number, count: number): void {
    const thread = this.#now.thread - this.#first;
    const repeats = this.#repeats[thread] ??= new Map();
    const repeat = repeats.get(site) ?? 0;
    repeats.set(site, repeat + 1);
    if (repeat >= MOST_REPEATS || !(at >= 0 && at < memory.length)) return;
    const key = `${Math.floor(thread / this.#subgroupSize)} ${site} ${repeat}`;
    const { bytes } = memory;
    const request = this.#requests.get(key);
    if (request) request.lanes.push([at * bytes, count * bytes]);
    else this.#requests.set(key, { memory, site, lanes: [[at * bytes, count * bytes]] });
  }

  /** Adds up what a workgroup did. */
  end(): void {
    const most = new Map<number, number>();
    for (const repeats of this.#repeats) {
      for (const [site, n] of repeats ?? []) most.set(site, Math.max(most.get(site) ?? 0, n));
    }
    for (const { memory, site, lanes } of this.#requests.values()) {
      const alike = Math.max(1, most.get(site)! / MOST_REPEATS);
      if (memory.storage) {
        const { sectors, fewest } = sectorsOf(lanes);
        this.#sums.sectors += alike * sectors;
        this.#sums.fewestSectors += alike * fewest;
      } else {
        const { turns, fewest } = turnsOf(lanes);
        this.#sums.turns += alike * turns;
        this.#sums.fewestTurns += alike * fewest;
      }
    }
    this.#repeats = [];
    this.#requests.clear();
  }

  /** What a dispatch of `groups` workgroups comes to, by those that were seen. */
  of(groups: number): Turns {
    const scale = groups / Math.max(1, this.#groups);
    const { sectors, fewestSectors, turns, fewestTurns } = this.#sums;
    return {
      sectors: scale * sectors,
      fewestSectors: scale * fewestSectors,
      turns: scale * turns,
      fewestTurns: scale * fewestTurns,
    };
  }
}

function sectorsOf(lanes: Request["lanes"]): { sectors: number; fewest: number } {
  const sectors = new Set<number>(), halves = new Set<number>();
  for (const [at, bytes] of lanes) {
    for (let b = at; b < at + bytes; b += 2) {
      halves.add(b >> 1);
      sectors.add(b >> 5);
    }
  }
  return { sectors: sectors.size, fewest: Math.ceil(halves.size / 16) };
}

function turnsOf(lanes: Request["lanes"]): { turns: number; fewest: number } {
  const bytes = lanes[0]![1];
  const together = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
  let turns = 0, fewest = 0;
  for (let i = 0; i < lanes.length; i += together) {
    const banks = new Map<number, Set<number>>();
    for (const [at, size] of lanes.slice(i, i + together)) {
      for (let b = at; b < at + size; b += 4) {
        const word = b >> 2, bank = word % 32;
        const words = banks.get(bank) ?? new Set();
        banks.set(bank, words.add(word));
      }
    }
    turns += Math.max(...[...banks.values()].map((words) => words.size));
    fewest++;
  }
  return { turns, fewest };
}
