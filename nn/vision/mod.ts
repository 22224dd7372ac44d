/** Images: batch transforms on the GPU, boxes. */

export {
  boxIou,
  type ByteImage,
  drawBoxes,
  type DrawBoxesOptions,
  multiboxDetection,
  type MultiboxDetectionOptions,
  multiboxPrior,
  type MultiboxPriorOptions,
  multiboxTarget,
  type MultiboxTargetOptions,
  type MultiboxTargets,
  nms,
  type NmsOptions,
} from "./boxes.ts";
export {
  normalize,
  randomAffine,
  type RandomAffineOptions,
  randomHorizontalFlip,
  randomRotation,
  resize,
  toTensor,
  type WarpOptions,
} from "./transforms.ts";
