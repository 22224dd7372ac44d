/** @file How a loader gets its samples: on its own thread or from workers. */

import { type Dataset, Subset } from "./dataset.ts";
import { LoadError } from "./load_error.ts";
import { IN_WORKER, WorkerPool } from "./worker_pool.ts";

/** The samples at `indices`, loaded on this thread. */
export async function loadHere<S>(dataset: Dataset<S>, indices: readonly number[]): Promise<S[]> {
  const results = await Promise.allSettled(indices.map(async (index) => await dataset.get(index)));
  return results.map((result, i) => {
    if (result.status === "rejected") throw new LoadError(indices[i]!, result.reason);
    return result.value;
  });
}

/** Workers that open a data set which says how. */
export function startWorkers<S>(source: Dataset<S>, count: number): WorkerPool<S> {
  if (IN_WORKER in globalThis) {
    throw new Error(
      "Cannot start workers in a worker: keep the data set in a module that does nothing but export it",
    );
  }
  return new WorkerPool<S>({ length: source.length, worker: source.worker! }, count);
}

/** The data set under all subsets, which is what a worker opens, and the positions there. */
export function resolve<S>(
  dataset: Dataset<S>,
  indices: readonly number[],
): { source: Dataset<S>; positions: readonly number[] } {
  let source = dataset, positions = indices;
  while (source instanceof Subset) {
    const { indices: map, dataset: under } = source as Subset<S>;
    positions = positions.map((position) => map[position]!);
    source = under;
  }
  return { source, positions };
}
