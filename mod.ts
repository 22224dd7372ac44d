/**
 * Lathe: a WebGPU tensor engine with autograd, for Deno and the browser.
 *
 * @example
 * ```ts
 * import { init, tensor } from "./mod.ts";
 * await init();
 * const x = tensor([1, 2, 3], { requiresGrad: true });
 * x.square().sum().backward();
 * console.log(await x.grad!.array()); // [2, 4, 6]
 * ```
 * @module
 */

export * from "./engine/mod.ts";
export * as nn from "./nn/mod.ts";
export { GradScaler, type GradScalerOptions } from "./nn/optim/grad_scaler.ts";
