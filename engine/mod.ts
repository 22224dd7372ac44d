/** The engine: tensors, autograd, devices. Knows nothing of `nn`. */

export { type DType, type TypedArray } from "./dtype.ts";
export { CheckError, GpuError, NoAdapterError } from "./errors.ts";
export { debug, type DebugSettings, setDebug } from "./gpu/debug.ts";
export {
  type DeviceInfo,
  init,
  type InitOptions,
  type Limits,
  type Provider,
} from "./gpu/device.ts";
export type { MemoryInfo } from "./gpu/pool.ts";
export { capture, type Captured, type CapturedResult } from "./capture.ts";
export { inModule, trackModules } from "./check.ts";
export { autocast, type AutocastOptions } from "./autocast.ts";
export { enableGrad, noGrad } from "./autograd.ts";
export { checkpoint, detectAnomaly, grad, type GradOptions } from "./functions_autograd.ts";
export { customGrad, type CustomResult } from "./functions_custom.ts";
export { gradcheck, type GradcheckOptions, gradgradcheck } from "./gradcheck.ts";
export { memory, type Nested, readAll, synchronize } from "./read.ts";
export { manualSeed, type RngState, rngState, setRngState } from "./rng.ts";
export { keep, scope } from "./scope.ts";
export { type Operand, type ReduceOptions, type SortOptions, Tensor } from "./tensor.ts";
export { collectedTensors } from "./tensor_base.ts";
export {
  arange,
  bernoulli,
  cat,
  type CreateOptions,
  eye,
  full,
  linspace,
  ones,
  onesLike,
  rand,
  randint,
  randLike,
  randn,
  randnLike,
  stack,
  tensor,
  type TensorInit,
  zeros,
  zerosLike,
} from "./creation.ts";
export {
  adaptiveAvgPool2d,
  type AffineRanges,
  avgPool2d,
  conv2d,
  type ConvOptions,
  dropout,
  fromBytes,
  linear,
  maxPool2d,
  type Pair,
  type PoolOptions,
  randomAffineMaps,
  sgdStep,
  type SgdTensors,
  type Sides,
  warpAffine,
} from "./functions.ts";
export {
  type AdaptiveNumberTensors,
  type AdaptiveRule,
  adaptiveStep,
  type AdaptiveTensors,
  clipGradNorm,
  type ClipGradNormOptions,
  clipGradValue,
} from "./functions_optim.ts";
export {
  attention,
  type AttentionInputs,
  type AttentionOptions,
  scaledDotProductAttention,
} from "./functions_attention.ts";
export {
  conv1d,
  type Conv1dOptions,
  convTranspose1d,
  type ConvTranspose1dOptions,
  convTranspose2d,
  type ConvTransposeOptions,
  samePadding,
} from "./functions_conv.ts";
export {
  adaptiveAvgPool3d,
  adaptiveMaxPool3d,
  avgPool3d,
  conv3d,
  type Conv3dOptions,
  convTranspose3d,
  type ConvTranspose3dOptions,
  maxPool3d,
  type Pool3dOptions,
  type Triple,
} from "./functions_volume.ts";
export { interpolate, type InterpolateOptions } from "./functions_resize.ts";
export { fold, unfold, type WindowOptions } from "./functions_windows.ts";
export {
  adaptiveMaxPool2d,
  affineGrid,
  gridSample,
  type GridSampleOptions,
} from "./functions_sample.ts";
export {
  batchNorm,
  type BatchNormOptions,
  groupNorm,
  instanceNorm,
  layerNorm,
  normalize,
  type NormalizeOptions,
  type NormOptions,
  rmsNorm,
} from "./functions_norm.ts";
export { embedding, oneHot, randperm } from "./functions_index.ts";
export type { Activation, OutputActivation } from "./ops/epilogue.ts";
export * from "./functions_pointwise.ts";
export * from "./functions_reduce.ts";
export * from "./functions_linalg.ts";
export * from "./functions_shape.ts";
export type { PadOptions } from "./tensor_shape.ts";
export type { AlphaOptions, RoundingOptions } from "./tensor_pointwise.ts";
export type { VarianceOptions } from "./tensor_reduce.ts";
export {
  boxIou,
  multiboxDetection,
  type MultiboxDetectionOptions,
  multiboxPrior,
  type MultiboxPriorOptions,
  multiboxTarget,
  type MultiboxTargetOptions,
  type MultiboxTargets,
  nms,
  type NmsOptions,
} from "./functions_boxes.ts";
export {
  type RecurrentCell,
  recurrentLayer,
  type RecurrentLayerOptions,
  type RecurrentLayerResult,
  type RecurrentWeights,
} from "./functions_recurrent.ts";
export * from "./functions_loss_pairs.ts";
export { adjustColors, blurEach, cropResize, eraseBoxes, warpReflect } from "./functions_image.ts";
export {
  bceLoss,
  type BceOptions,
  bceWithLogitsLoss,
  type BceWithLogitsOptions,
  biTemperedLogisticLoss,
  type BiTemperedOptions,
  type ClassLossOptions,
  crossEntropy,
  type CrossEntropyOptions,
  focalCosineLoss,
  type FocalCosineOptions,
  focalLoss,
  type FocalOptions,
  huberLoss,
  klDiv,
  type KlDivOptions,
  l1Loss,
  type LossOptions,
  mseLoss,
  nllLoss,
  type Reduction,
  smoothL1Loss,
  softCrossEntropyLoss,
  type SoftCrossEntropyOptions,
} from "./functions_loss.ts";
export {
  type DispatchTime,
  type KernelTime,
  type ModuleTime,
  Profile,
  profile,
  type ProfileOptions,
  type WorkTime,
} from "./profile.ts";
export type { TableOptions } from "./profile_table.ts";
export { measureRoofline, type Roofline } from "./roofline.ts";
export { type ScaleRule, unscaleGradients, updateLossScale } from "./functions_amp.ts";
