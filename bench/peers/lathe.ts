/** @file This library, as the comparison sees it. */

import { readAll, scope, synchronize, type Tensor, tensor } from "../../mod.ts";
import { latheWork } from "../lathe.ts";
import type { Work } from "../work.ts";
import { latheConvNet } from "./conv_net.ts";
import type { HostInput, Job, Library } from "./library.ts";

/** The numbers on the host as a tensor. */
export function upload({ shape, data }: HostInput): Tensor {
  return tensor(data, { shape, dtype: data instanceof Int32Array ? "i32" : "f32" });
}

async function readOnce(run: () => readonly Tensor[]): Promise<Float32Array[]> {
  const results = scope(run);
  try {
    return await readAll(results) as Float32Array[];
  } finally {
    for (const t of results) t.dispose();
  }
}

/** This library. Training steps are captured; everything else runs op by op. */
export function lathe(): Library {
  return {
    name: "Lathe",
    prepare(work: Work, inputs: readonly HostInput[]): Promise<Job | null> {
      const tensors = inputs.map(upload);
      const dispose = () => tensors.forEach((t) => t.dispose());
      if (work.op === "step") {
        const { check, step } = latheConvNet(tensors);
        return Promise.resolve({
          run: () => step().dispose(),
          results: () => readOnce(check),
          dispose,
        });
      }
      const run = latheWork(work, tensors);
      return Promise.resolve({
        run: () => scope(() => void run()),
        results: () => readOnce(run),
        dispose,
      });
    },
    synchronize,
  };
}
