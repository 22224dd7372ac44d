/** @file The loop the experiments share: epochs of steps, saved and resumed to the same bits. */

import { GpuError, memory, nn, rngState, scope, setRngState, type Tensor } from "../mod.ts";
import { shellPath } from "./_args.ts";
import { StepProfiler } from "./_profile.ts";
import type { StartedRun } from "./_run.ts";

/** The file in a run folder that a run goes on from. */
export const CHECKPOINT = "checkpoint.safetensors";

/** Something a checkpoint keeps: a model, an optimizer, a scheduler, a scaler … */
export interface Stateful {
  stateDict(): unknown;
  loadStateDict(state: never): unknown;
}

/** Flags that the loop reads. */
export interface LoopOptions {
  readonly epochs: number;
  readonly checkpointEvery: number;
  readonly batchSize: number;
  readonly profile: boolean;
}

/** What an experiment gives the loop. */
export interface LoopParts<Batch, Row> {
  readonly start: StartedRun<LoopOptions>;
  readonly loader: nn.data.DataLoader<number, Batch>;
  /** What a checkpoint keeps besides the loop's own state, by name. */
  readonly state: Readonly<Record<string, Stateful>>;
  /** Sums over the present epoch, on the GPU. They are in the checkpoint, and zeroed after an epoch. */
  readonly totals: Tensor;
  /** The mean loss of an epoch from its totals; training ends where it is not finite. */
  readonly loss: (totals: Float32Array) => number;
  /** One step on a batch; what it makes is freed after it. */
  readonly step: (batch: Batch) => void;
  /** Called before the first step of an epoch that is trained in this process. */
  readonly beginEpoch?: (epoch: number) => void;
  /** What the progress bar shows, read from the GPU about five times an epoch. */
  readonly progress: () => Promise<{ loss?: number; accuracy?: number }>;
  /** Called after each step. */
  readonly afterStep?: (at: { epoch: number; step: number; steps: number }) => Promise<void> | void;
  /** Evaluates, logs and keeps the best weights. Its row joins the history. */
  readonly endEpoch: (epoch: number, totals: Float32Array) => Promise<Row>;
  /** Whether training ends before the last epoch. */
  readonly stopped?: () => boolean;
  /** The step of TensorBoard's events that a run at this place writes next. Default: epoch + 1. */
  readonly eventStep?: (at: { epoch: number; batch: number }) => number;
}

/** Training came to a loss that is no number to go on with. */
class LossError extends nn.run.RunError {}

/**
 * Ends training where a loss is infinite or NaN: all that comes after it is, too.
 *
 * @param kind Whose loss it is, e.g. `training`.
 * @throws {nn.run.RunError} It is not finite.
 */
export function checkLoss(kind: string, { epoch, loss }: { epoch: number; loss: number }): void {
  if (Number.isFinite(loss)) return;
  throw new LossError(
    `Cannot train on: the ${kind} loss of epoch ${epoch} is ${loss}; start a new run, with a smaller --lr`,
  );
}

/** What the loop itself keeps in a checkpoint. */
interface LoopState<Row> {
  rng: { seed: number; calls: number };
  loader: nn.data.LoaderState;
  totals: Tensor;
  history: Row[];
  seconds: number;
}

/**
 * Trains epoch by epoch. Ctrl-C and SIGTERM finish the step, save, and say how to go on; a run that goes
 * on ends with the bits of one that was never stopped.
 */
export class TrainingLoop<Batch, Row> {
  /** The rows of all epochs so far. */
  history: Row[] = [];
  readonly #parts: LoopParts<Batch, Row>;
  readonly #monitor: nn.run.ResourceMonitor;
  readonly #started = performance.now();
  #secondsBefore = 0;
  #profiler: StepProfiler | undefined;
  #events: nn.run.EventWriter | undefined;
  /** Where the checkpoint goes on, if there is one. */
  #saved: nn.data.LoaderState | undefined;

  constructor(parts: LoopParts<Batch, Row>) {
    this.#parts = parts;
    this.#monitor = new nn.run.ResourceMonitor({ adapter: parts.start.adapter, gpuMemory: memory });
  }

  /** Seconds trained so far, sessions before a resume included. */
  get seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#started) / 1000;
  }

  /** TensorBoard's events of this run. Only while the loop runs. */
  get events(): nn.run.EventWriter {
    if (!this.#events) throw new Error("Cannot write events: the loop does not run");
    return this.#events;
  }

  /** Prints the use of processor and memory under a heading. */
  logResources(when: string): void {
    const { folder } = this.#parts.start;
    folder.log(`\n............... ${when} - GPU & CPU monitoring ...............`);
    for (const line of nn.run.formatResources(this.#monitor.sample())) folder.log(line);
  }

  /**
   * Trains what is left. Gives the exit code of an interruption, or undefined at the end.
   *
   * @throws {nn.run.RunError} The GPU or a file failed; the message says what is saved and how to go on.
   */
  async run(): Promise<number | undefined> {
    try {
      const { folder, options } = this.#parts.start;
      this.#parts.start.begin();
      this.#profiler = options.profile ? await StepProfiler.open(folder) : undefined;
      const code = await this.#run();
      this.#profiler?.finish();
      return code;
    } catch (error) {
      if (!isOutside(error)) throw error;
      if (error instanceof LossError) {
        this.#recordError(error.message);
        throw error;
      }
      const message = `${error.message}; ${this.#howToGoOn()}`;
      this.#recordError(message);
      throw new nn.run.RunError(message, { cause: error });
    }
  }

  /** Leaves a word in the log, unless the disk is what failed. */
  #recordError(message: string): void {
    try {
      this.#parts.start.folder.record(`error: ${message}`);
    } catch (error) {
      if (!(error instanceof nn.run.RunError)) throw error;
    }
  }

  async #run(): Promise<number | undefined> {
    const { start, loader, eventStep } = this.#parts;
    const { folder, options } = start;
    if (start.resumed) await this.#load();
    const ended = () => (this.#parts.stopped?.() ?? false) || loader.epoch >= options.epochs;
    using interrupt = new nn.run.Interrupt({
      onFirst: () => folder.log("\nStopping after this step; press Ctrl-C again to stop at once"),
    });
    const resumeAt = eventStep?.(loader.state()) ?? loader.epoch + 1;
    using events = new nn.run.EventWriter(folder.dir, { resumeAt });
    this.#events = events;
    let finished = ended();
    while (!finished) {
      if (!await this.#epoch(interrupt)) return await this.#interrupted(interrupt);
      finished = ended();
      if (finished || loader.epoch % options.checkpointEvery === 0) await this.save();
      if (await interrupt.poll() && !finished) return await this.#interrupted(interrupt);
    }
    this.#events = undefined;
  }

  /** Writes everything a resumed run needs. */
  async save(): Promise<void> {
    const { start, state, loader, totals } = this.#parts;
    const own: LoopState<Row> = {
      rng: rngState(),
      loader: loader.state(),
      totals,
      history: this.history,
      seconds: this.seconds,
    };
    const parts = Object.entries(state).map(([name, part]) => [name, part.stateDict()]);
    await nn.io.saveCheckpoint(start.folder.path(CHECKPOINT), {
      ...Object.fromEntries(parts),
      ...own,
    });
    this.#saved = own.loader;
  }

  /** One epoch; false when it was interrupted and must be saved. */
  async #epoch(interrupt: nn.run.Interrupt): Promise<boolean> {
    const { loader, totals, loss, endEpoch } = this.#parts;
    const epoch = loader.epoch + 1;
    if (!await this.#train(interrupt, epoch)) return false;
    const sums = await totals.data() as Float32Array;
    checkLoss("training", { epoch, loss: loss(sums) });
    this.history.push(await endEpoch(epoch, sums));
    totals.zero_();
    return true;
  }

  /** The steps of an epoch that are left; false when interrupted after one. */
  async #train(interrupt: nn.run.Interrupt, epoch: number): Promise<boolean> {
    const { start, loader, step: train, progress, beginEpoch, afterStep } = this.#parts;
    const { options, folder } = start;
    beginEpoch?.(epoch);
    const steps = loader.length;
    let step = loader.state().batch;
    const bar = folder.progress(steps, {
      label: `Epoch ${epoch}/${options.epochs}`,
      start: { step, samples: step * options.batchSize },
    });
    let waited = 0;
    let asked = performance.now();
    for await (const batch of loader) {
      waited += (performance.now() - asked) / 1000;
      const run = () => scope(() => train(batch));
      if (this.#profiler) await this.#profiler.run(run);
      else run();
      step++;
      const update = { step, samples: step * options.batchSize, waitSeconds: waited };
      bar.update(bar.isReportStep(step) ? { ...update, ...await progress() } : update);
      await afterStep?.({ epoch, step, steps });
      if (await interrupt.poll() && step < steps) {
        bar.finish();
        return false;
      }
      asked = performance.now();
    }
    bar.finish();
    return true;
  }

  /** Goes to where the checkpoint was written. */
  async #load(): Promise<void> {
    const { start, state, loader, totals } = this.#parts;
    const { folder } = start;
    const saved = await loadIfThere<LoopState<Row> & Record<string, unknown>>(
      folder.path(CHECKPOINT),
    );
    if (saved === undefined) {
      folder.metrics.rewind(0);
      folder.log(`${folder.dir} has no checkpoint yet: the run starts at the beginning`);
      return;
    }
    for (const [name, part] of Object.entries(state)) part.loadStateDict(saved[name] as never);
    setRngState(saved.rng);
    loader.loadState(saved.loader);
    totals.copy_(saved.totals);
    this.history = saved.history;
    this.#secondsBefore = saved.seconds;
    folder.metrics.rewind(loader.epoch);
    const { epoch, batch } = this.#saved = saved.loader;
    folder.log(
      `Resumed from ${folder.dir} at epoch ${epoch + 1}, batch ${batch} of ${loader.length}`,
    );
  }

  async #interrupted(interrupt: nn.run.Interrupt): Promise<number> {
    await this.save();
    const { folder } = this.#parts.start;
    folder.log(`Interrupted; everything is saved. Go on with:`);
    folder.log(`  ${this.#resumeCommand}`);
    return interrupt.exitCode;
  }

  get #resumeCommand(): string {
    const { experiment, folder } = this.#parts.start;
    return `deno task train ${experiment} --resume ${shellPath(folder.dir)}`;
  }

  #howToGoOn(): string {
    const { epoch, batch } = this.#saved ?? { epoch: 0, batch: 0 };
    const saved = this.#saved
      ? `all up to batch ${batch} of epoch ${epoch + 1} is saved`
      : "nothing was saved yet";
    return `${saved}: go on with ${this.#resumeCommand}`;
  }
}

/** Whether the GPU, the disk or the system failed, not the program. */
function isOutside(error: unknown): error is Error {
  if (error instanceof GpuError || error instanceof nn.run.RunError) return true;
  return error instanceof Error && /\(os error \d+\)/.test(error.message);
}

/** The state of a checkpoint; undefined where a run ended before its first. */
async function loadIfThere<T extends object>(path: string): Promise<T | undefined> {
  try {
    return await nn.io.loadCheckpoint<T>(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
