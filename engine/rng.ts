/**
 * The state of the engine's counter-based generator (Philox-4x32-10).
 *
 * A random op takes the next call number; element block `i` of call `c` is philox(counter = (i, 0,
 * c + base), key = seed). Seed and base live in a GPU buffer, so a recorded step that is replayed
 * draws fresh numbers by raising the base alone, which it does itself at its end, and a backward rule draws
 * the forward's numbers again from the same call number.
 */

import { DeviceArray } from "./array.ts";
import { gpu, openGpu } from "./gpu/device.ts";
import { Storage } from "./gpu/storage.ts";

/** What a checkpoint keeps of the generator. */
export interface RngState {
  /** The seed, 0 to 2^53 - 1. */
  readonly seed: number;
  /** Random ops run since it was set. */
  readonly calls: number;
}

let state: RngState = { seed: 0, calls: 0 };
let buffer: { owner: unknown; seed: number; base: number; storage: Storage } | undefined;

/**
 * Seeds every random op that follows: initialisers, dropout, `rand`, image transforms.
 *
 * @throws {RangeError} if the seed is not a whole number from 0 to 2^53 - 1
 * @throws {Error} inside a captured function: replays would not do it
 */
export function manualSeed(seed: number): void {
  refuseInCapture();
  setRngState({ seed, calls: 0 });
}

/** The generator's state, for a checkpoint. */
export function rngState(): RngState {
  return { ...state };
}

/**
 * Continues from a saved state.
 *
 * @throws {RangeError} if seed or calls is not a whole number from 0 to 2^53 - 1
 * @throws {Error} inside a captured function, if the seed is another: replays would not change it
 */
export function setRngState(next: RngState): void {
  for (const name of ["seed", "calls"] as const) {
    if (!Number.isSafeInteger(next[name]) || next[name] < 0) {
      throw new RangeError(
        `Cannot use ${
          next[name]
        } as the generator's ${name}: it must be a whole number from 0 to 2^53 - 1`,
      );
    }
  }
  if (next.seed !== state.seed) refuseInCapture();
  state = { seed: next.seed, calls: next.calls };
}

function refuseInCapture(): void {
  if (!openGpu()?.queue.recorder) return;
  throw new Error("Cannot seed the generator inside a captured function: do it before the call");
}

/** Takes the next call number. */
export function nextCall(): number {
  const call = state.calls;
  state = { ...state, calls: call + 1 };
  return call;
}

/** The generator's GPU state [seed low, seed high, base low, base high] as a u32 array. */
export function rngArray(): DeviceArray {
  return new DeviceArray(stateOnGpu(0).retain(), "u32", [4]);
}

/**
 * Shifts the call numbers of a recorded step that runs again: those it was recorded with stand for
 * numbers from the present one on. Takes `calls` of them.
 *
 * @param first the number of the first random call when the step was recorded
 */
export function shiftCalls(first: number, calls: number): void {
  if (calls === 0) return;
  stateOnGpu(state.calls - first);
  state = { ...state, calls: state.calls + calls };
}

/** Notes that recorded work has raised the base in GPU memory by `calls`. */
export function baseRaised(calls: number): void {
  if (buffer?.owner === gpu()) buffer.base += calls;
}

/** Writes seed and base to GPU memory where they changed. */
function stateOnGpu(base: number): Storage {
  if (buffer?.owner === gpu() && buffer.seed === state.seed && buffer.base === base) {
    return buffer.storage;
  }
  // A negative base wraps: the kernel adds modulo 2^64.
  const high = Math.floor(base / 2 ** 32) >>> 0;
  const words = [state.seed >>> 0, Math.floor(state.seed / 2 ** 32), base >>> 0, high];
  const bytes = new Uint8Array(new Uint32Array(words).buffer);
  if (buffer?.owner === gpu()) buffer.storage.write(bytes);
  const storage = buffer?.owner === gpu() ? buffer.storage : Storage.from(bytes, "rng state");
  buffer = { owner: gpu(), seed: state.seed, base, storage };
  return storage;
}

/** The two halves of a call number, as kernel params. */
export function callParams(call: number): { call_lo: number; call_hi: number } {
  return { call_lo: call >>> 0, call_hi: Math.floor(call / 2 ** 32) };
}
