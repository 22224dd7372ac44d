/** @file Optimizers, learning rates, early stopping. */

export { clipGradNorm, type ClipGradNormOptions, clipGradValue } from "../../engine/mod.ts";
export { Adagrad, type AdagradOptions } from "./adagrad.ts";
export { Adam, type AdamOptions, AdamW } from "./adam.ts";
export { AdaptiveOptimizer } from "./adaptive.ts";
export {
  EarlyStopping,
  type EarlyStoppingOptions,
  type EarlyStoppingState,
} from "./early_stopping.ts";
export { EMA, type EMAOptions } from "./ema.ts";
export {
  ConstantLR,
  CosineAnnealingLR,
  CosineAnnealingWarmRestarts,
  ExponentialLR,
  LambdaLR,
  LinearLR,
  type LrPoint,
  LRScheduler,
  type LRSchedulerState,
  MultiStepLR,
  PolynomialLR,
  StepLR,
} from "./lr_scheduler.ts";
export { OneCycleLR, type OneCycleOptions } from "./one_cycle.ts";
export { SequentialLR, type SequentialLRState } from "./sequential_lr.ts";
export {
  type BaseOptions,
  Optimizer,
  type OptimizerState,
  type ParamGroup,
  type ParamInput,
  type ParamState,
  type StepOptions,
} from "./optimizer.ts";
export {
  ReduceLROnPlateau,
  type ReduceLROnPlateauOptions,
  type ReduceLROnPlateauState,
} from "./reduce_on_plateau.ts";
export { RMSprop, type RMSpropOptions } from "./rmsprop.ts";
export { SGD, type SGDOptions } from "./sgd.ts";
export {
  GradScaler,
  type GradScalerOptions,
  type GradScalerState,
  type ScaledOptimizer,
} from "./grad_scaler.ts";
