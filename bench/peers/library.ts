/** @file What the comparison needs from a library. */

import type { Work } from "../work.ts";

/** An input on the host; classes are whole numbers. */
export interface HostInput {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
}

/** A piece of work that is ready to run. */
export interface Job {
  /** Runs it once; results are freed, or kept until `Library.synchronize`. */
  run(): void | Promise<void>;
  /** Results of one run, in the layout of PyTorch, to be compared. */
  results(): Promise<Float32Array[]>;
  /** Frees the inputs. */
  dispose(): void;
}

/** A library that does the same work. */
export interface Library {
  /** As the table names it. */
  readonly name: string;
  /** Uploads the inputs; null where the library lacks the operation. */
  prepare(work: Work, inputs: readonly HostInput[]): Promise<Job | null>;
  /** Waits until all work has ended. */
  synchronize(): Promise<void>;
}
