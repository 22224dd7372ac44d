/** @file Layers. */

export { LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Softmax2d, Tanh } from "./activation.ts";
export {
  CELU,
  ELU,
  GELU,
  Hardsigmoid,
  Hardswish,
  Hardtanh,
  LogSigmoid,
  Mish,
  ReLU6,
  SELU,
  SiLU,
  Softplus,
  Softsign,
} from "./activation_more.ts";
export {
  GLU,
  Hardshrink,
  PReLU,
  Softmin,
  Softshrink,
  Tanhshrink,
  Threshold,
} from "./activation_others.ts";
export {
  DropPath,
  MultiheadAttention,
  type MultiheadAttentionCall,
  type MultiheadAttentionOptions,
} from "./attention.ts";
export { ModuleDict, ModuleList, Sequential } from "./container.ts";
export { Conv2d, type Conv2dOptions, Conv2dSame } from "./conv.ts";
export {
  Conv1d,
  type Conv1dLayerOptions,
  ConvTranspose1d,
  type ConvTranspose1dLayerOptions,
  ConvTranspose2d,
  type ConvTranspose2dOptions,
} from "./conv_others.ts";
export {
  Conv3d,
  type Conv3dLayerOptions,
  ConvTranspose3d,
  type ConvTranspose3dLayerOptions,
} from "./conv_3d.ts";
export { Linear, type LinearOptions } from "./linear.ts";
export {
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  type BatchNormOptions,
  GroupNorm,
  type GroupNormOptions,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  LayerNorm,
  type LayerNormOptions,
  RMSNorm,
  SplitBatchNorm2d,
  type SplitBatchNormOptions,
} from "./norm.ts";
export {
  BCELoss,
  BCEWithLogitsLoss,
  BiTemperedLogisticLoss,
  CrossEntropyLoss,
  FocalCosineLoss,
  FocalLoss,
  HuberLoss,
  KLDivLoss,
  L1Loss,
  Loss,
  MSELoss,
  NLLLoss,
  SmoothL1Loss,
  SoftCrossEntropyLoss,
} from "./loss.ts";
export {
  AdaptiveAvgPool2d,
  AdaptiveMaxPool2d,
  AvgPool2d,
  type AvgPool2dOptions,
  MaxPool2d,
  type MaxPool2dOptions,
} from "./pooling.ts";
export {
  GRU,
  LSTM,
  type LSTMInput,
  type LSTMOutput,
  RecurrentBase,
  type RecurrentInput,
  type RecurrentOptions,
  type RecurrentOutput,
  RNN,
  type RNNOptions,
} from "./recurrent.ts";
export {
  GRUCell,
  LSTMCell,
  type LSTMState,
  RecurrentCellBase,
  type RecurrentCellOptions,
  RNNCell,
  type RNNCellOptions,
} from "./recurrent_cell.ts";
export {
  AdaptiveAvgPool1d,
  AdaptiveMaxPool1d,
  AvgPool1d,
  type AvgPool1dOptions,
  MaxPool1d,
  type MaxPool1dOptions,
} from "./pooling_1d.ts";
export {
  AdaptiveAvgPool3d,
  AdaptiveMaxPool3d,
  AvgPool3d,
  type AvgPool3dOptions,
  MaxPool3d,
  type MaxPool3dOptions,
} from "./pooling_3d.ts";
export {
  BorderPad,
  CircularPad1d,
  CircularPad2d,
  CircularPad3d,
  ConstantPad1d,
  ConstantPad2d,
  ConstantPad3d,
  ImagePad,
  type ImagePadding,
  ReflectionPad1d,
  ReflectionPad2d,
  ReflectionPad3d,
  ReplicationPad1d,
  ReplicationPad2d,
  ReplicationPad3d,
  RowPad,
  type RowPadding,
  VolumePad,
  type VolumePadding,
  ZeroPad1d,
  ZeroPad2d,
  ZeroPad3d,
} from "./padding.ts";
export { Fold, Unfold } from "./windows.ts";
export { PixelShuffle, PixelUnshuffle, Upsample, type UpsampleOptions } from "./resize.ts";
export {
  CosineEmbeddingLoss,
  CosineSimilarity,
  GaussianNLLLoss,
  MarginRankingLoss,
  PairwiseDistance,
  PoissonNLLLoss,
  TripletMarginLoss,
} from "./loss_pairs.ts";
export {
  type DecoderMasks,
  type EncoderMasks,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
} from "./transformer.ts";
export {
  Dropout,
  Dropout1d,
  Dropout2d,
  Dropout3d,
  Flatten,
  type FlattenOptions,
  Identity,
  Unflatten,
} from "./shape.ts";
export { Embedding, type EmbeddingOptions } from "./embedding.ts";
