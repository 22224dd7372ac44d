/** Weights and checkpoints: files in, files out. */

export { loadSafetensors, saveSafetensors } from "./safetensors.ts";
export {
  decodeSafetensors,
  encodeSafetensors,
  type SafetensorsFile,
} from "./safetensors_format.ts";
export type { HostArray, HostData, HostDtype } from "./host_array.ts";
export { type CheckpointValue, loadCheckpoint, saveCheckpoint } from "./checkpoint.ts";
export { type ByteTarget, writeFileAtomic } from "./atomic.ts";
export {
  openSafetensors,
  openTorch,
  type OpenTorchOptions,
  openWeights,
  type RowRange,
  WeightFile,
  type WeightInfo,
} from "./weight_file.ts";
export {
  type HostWeights,
  readWeights,
  type ReadWeightsOptions,
  type WeightFormat,
} from "./any_weights.ts";
export {
  loadWeights,
  type LoadWeightsOptions,
  WeightsError,
  type WeightsReport,
} from "./load_weights.ts";
export { type ByteSource, type LocalSource, NoFilesError } from "./source.ts";
export { decodeTorch, type DecodeTorchOptions, loadTorch, type LoadTorchOptions } from "./torch.ts";
export { TorchTensor } from "./torch_tensor.ts";
export { decodeMxnetParams, type LoadMxnetOptions, loadMxnetParams } from "./mxnet.ts";
export {
  decodeNpy,
  decodeNpz,
  encodeNpy,
  encodeNpz,
  loadNpy,
  type LoadNpyOptions,
  loadNpz,
  saveNpz,
} from "./npy.ts";
