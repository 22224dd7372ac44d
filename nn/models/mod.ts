/** @file Models. */

export { AlexNet, alexnet, type AlexNetOptions } from "./alexnet.ts";
export {
  DepthwiseSeparableConv,
  EfficientNet,
  efficientnetB0,
  type EfficientNetOptions,
  InvertedResidual,
  SqueezeExcite,
} from "./efficientnet.ts";
export {
  BasicBlock,
  Bottleneck,
  type NormLayer,
  ResNet,
  resnet18,
  resnet34,
  resnet50,
  type ResNetOptions,
} from "./resnet.ts";
export { ConvNet, convNet, type ConvNetOptions } from "./conv_net.ts";
export {
  CaptionDecoder,
  CaptionEncoder,
  Captioner,
  captioner,
  type CaptionerOptions,
} from "./captioner.ts";
export { type Encoder, MoCo, moco, type MoCoOptions } from "./moco.ts";
export { type SsdOutput, ToySsd, toySsd, type ToySsdOptions } from "./toy_ssd.ts";
