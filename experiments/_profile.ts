/** @file `--profile`: times a few steps of a run by the GPU's clock. */

import { measureRoofline, type nn, Profile, profile, trackModules } from "../mod.ts";

/** Steps that are not timed: compilation, the recording of a captured step, its first replay. */
const WARM_UP = 3;
/** Steps that are timed. */
const TIMED = 3;

/** The file in a run folder that Perfetto and Chrome open. */
export const TRACE = "trace.json";

/** Times a few steps after warm-up; the run goes on as it would without. */
export class StepProfiler {
  readonly #folder: nn.run.RunFolder;
  #steps = 0;
  #profile: Profile | undefined;

  /**
   * Makes modules say where work comes from, so that captured steps know it.
   *
   * @param folder Where the trace goes, and whose log the table.
   */
  private constructor(folder: nn.run.RunFolder) {
    this.#folder = folder;
    trackModules(true);
  }

  /**
   * A profiler for a run that is about to start.
   *
   * @throws {GpuError} The adapter has no timestamp queries.
   */
  static async open(folder: nn.run.RunFolder): Promise<StepProfiler> {
    await measureRoofline();
    return new StepProfiler(folder);
  }

  /** Runs a training step, timed if it is one of those. */
  async run(step: () => void): Promise<void> {
    const at = this.#steps++;
    if (at < WARM_UP || at >= WARM_UP + TIMED) return step();
    const { dispatches, roofline } = await profile(step);
    this.#profile = new Profile([...this.#profile?.dispatches ?? [], ...dispatches], roofline);
    if (at === WARM_UP + TIMED - 1) trackModules(false);
  }

  /** Writes the trace and prints the ten heaviest kernels and the modules. */
  finish(): void {
    trackModules(false);
    if (!this.#profile) {
      this.#folder.log(`No profile: the run had no more than ${WARM_UP} steps`);
      return;
    }
    const timed = Math.min(this.#steps - WARM_UP, TIMED);
    const path = this.#folder.path(TRACE);
    Deno.writeTextFileSync(path, this.#profile.trace());
    this.#folder.log(`\nProfile of ${timed} training steps after ${WARM_UP}`);
    this.#folder.log(this.#profile.table());
    this.#folder.log(`Trace for https://ui.perfetto.dev: ${path}`);
  }
}
