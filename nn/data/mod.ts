/** Data sets, readers and the loader. */

export { DataLoader } from "./loader.ts";
export type { DataLoaderOptions, LoaderState, Sampler } from "./loader.ts";
export { type Dataset, randomSplit, type RandomSplitOptions, Subset } from "./dataset.ts";
export type { WorkerSource } from "./dataset.ts";
export { LoadError } from "./load_error.ts";
export { type PictureBatch, stackPictures } from "./collate.ts";
export { type IdxArray, type IdxData, type IdxType, readIdx } from "./idx.ts";
export { type ReadIdxOptions, writeIdx } from "./idx.ts";
export { type LabeledImages, readEmnistLetters } from "./emnist.ts";
export { CIFAR10_CLASSES, type Cifar10Images, readCifar10 } from "./cifar.ts";
export {
  type ImageRecord,
  packImageRecord,
  readRecordIo,
  type ReadRecordIoOptions,
  type RecordFile,
  unpackImageRecord,
  writeRecordIo,
} from "./recordio.ts";
export type { Channels, Picture, ReadPictureOptions } from "./picture.ts";
export { readPng } from "./png.ts";
export { writePng } from "./png_write.ts";
export { initJpeg, readJpeg } from "./jpeg.ts";
export { readImage } from "./image.ts";
export type { CsvColumn, CsvColumns, CsvTable, CsvType, ReadCsvOptions } from "./csv.ts";
export { readCsv } from "./csv.ts";
export { readWav, type Sound } from "./wav.ts";
export type { MelOptions, MelScale, MelSpectrogram } from "./mel.ts";
export { hzToMel, melSpectrogram, melToHz, powerToDb } from "./mel.ts";
export { ImageFolder, type ImageFolderOptions, openImageFolder } from "./image_folder.ts";
export type { FoundPictures, LabeledPicture } from "./image_folder.ts";
export {
  type ClassLimits,
  ClassSampler,
  resampleClasses,
  WeightedSampler,
  type WeightedSamplerOptions,
} from "./samplers.ts";
export { HostRandom } from "./rng.ts";
