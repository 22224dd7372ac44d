/** @file Whole training steps of the experiments' models, on random data. */

import { crossEntropy, nn, randint, randn, type Tensor } from "../mod.ts";
import type { Step } from "./work.ts";

/** Runs one training step and gives the loss. */
export function trainingStep(work: Step): () => Tensor {
  const { n, side } = work;
  if (work.model === "MoCo ConvNet") {
    const model = nn.models.convNet({ imageSize: side });
    const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
    const [x, y] = [randn([n, 3, side, side]), randint(0, 512, { shape: [n] })];
    return () => {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.forward(x), y);
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
  }
  throw new RangeError(`Cannot train ${work.model}: no such step`);
}
