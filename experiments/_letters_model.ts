/** @file What the letters experiment does to AlexNet: its start, and the coupling of filters. */

import { nn, noGrad, type Tensor } from "../mod.ts";

/**
 * Copies filter 2i of the first convolution onto filter 2i + 1, weight and bias, for i < alpha.
 * alpha = 0 leaves the net as it is.
 */
export function equalizeFilters(model: nn.models.AlexNet, alpha: number): void {
  if (alpha === 0) return;
  const conv = model.features.at(0) as nn.Conv2d;
  noGrad(() => {
    for (const t of [conv.weight, conv.bias!]) {
      const pairs = t.narrow(0, 0, 2 * alpha).reshape(alpha, 2, ...t.shape.slice(1));
      pairs.select(1, 1).copy_(pairs.select(1, 0));
    }
  });
}

/**
 * He's uniform initialisation for the layers that a ReLU follows, with zero biases. The last layer
 * keeps PyTorch's default, so that the first loss is near ln 26.
 */
export function initKaiming(model: nn.models.AlexNet): void {
  const last = new Set<Tensor>((model.classifier.at(-1) as nn.Linear).parameters());
  for (const [name, parameter] of model.namedParameters()) {
    if (last.has(parameter)) continue;
    if (name.endsWith(".weight")) nn.init.kaimingUniform(parameter, { nonlinearity: "relu" });
    else nn.init.constant(parameter, 0);
  }
}
