/** Images: batch transforms on the GPU. */

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
