import { checkOptions } from "../../engine/arguments.ts";
import { needFiles } from "../io/source.ts";

/** Signals that ask a run to end. */
export type StopSignal = "SIGINT" | "SIGTERM";

/** Options of {@linkcode Interrupt}. */
export interface InterruptOptions {
  /** Called at the first signal, e.g. to say that the step is being finished. */
  onFirst?: (signal: StopSignal) => void;
  /** Ends the process at the second signal. Default `Deno.exit`. */
  exit?: (code: number) => void;
}

// 128 + the signal's number, as shells report it.
const EXIT_CODES: Record<StopSignal, number> = { SIGINT: 130, SIGTERM: 143 };

// Node's setImmediate yields to the event loop in ~10 µs, setTimeout(0) in ~2 ms; but a signal comes only
// after ~20 turns of the first, and in one of the second.
const immediate = (globalThis as { setImmediate?: (callback: () => void) => unknown }).setImmediate;

/** Milliseconds between two polls from which the slower way to yield does not matter. */
const LONG_STEP = 50;

/**
 * Lets a run end in good order. The first Ctrl-C (or SIGTERM) only sets {@linkcode reason}, which the
 * training loop reads after each step; the second ends the process at once with code 130 (143 for
 * SIGTERM). Disposing it gives the signals their usual meaning back.
 *
 * @example
 * ```ts
 * import { Interrupt } from "./interrupt.ts";
 *
 * using interrupt = new Interrupt({ onFirst: () => console.log("Finishing the step") });
 * for (let step = 0; step < 3; step++) {
 *   // train one batch
 *   if (await interrupt.poll()) break; // then save and say how to resume
 * }
 * ```
 */
export class Interrupt implements Disposable {
  readonly #listeners: [StopSignal, () => void][] = [];
  #reason: StopSignal | undefined;
  #polled = 0;

  constructor(options: InterruptOptions = {}) {
    checkOptions("make Interrupt", options, "new Interrupt({ onFirst })");
    needFiles("listen for Ctrl-C");
    const exit = options.exit ?? Deno.exit;
    // Windows has no SIGTERM to listen for.
    const signals: StopSignal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
    for (const signal of signals) {
      const listener = () => {
        if (this.#reason !== undefined) return exit(EXIT_CODES[signal]);
        this.#reason = signal;
        options.onFirst?.(signal);
      };
      Deno.addSignalListener(signal, listener);
      this.#listeners.push([signal, listener]);
    }
  }

  /** The signal that asked the run to end, or undefined. */
  get reason(): StopSignal | undefined {
    return this.#reason;
  }

  /** Exit code that tells a shell about {@linkcode reason}; 0 without one. */
  get exitCode(): number {
    return this.#reason === undefined ? 0 : EXIT_CODES[this.#reason];
  }

  /**
   * Gives the event loop one turn, in which signals arrive, and returns {@linkcode reason}. A loop
   * that only awaits settled promises never lets them in.
   */
  async poll(): Promise<StopSignal | undefined> {
    const long = performance.now() - this.#polled >= LONG_STEP;
    await new Promise<void>((resolve) => {
      if (immediate && !long) immediate(resolve);
      else setTimeout(resolve);
    });
    this.#polled = performance.now();
    return this.#reason;
  }

  /** Removes the listeners. */
  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners.splice(0)) {
      Deno.removeSignalListener(signal, listener);
    }
  }
}
