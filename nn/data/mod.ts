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
export { IdxFile, openIdx } from "./idx_file.ts";
export {
  CIFAR10_CLASSES,
  Cifar10Files,
  type Cifar10Images,
  type Cifar10Sample,
  openCifar10,
  readCifar10,
  writeCifar10,
} from "./cifar.ts";
export {
  type ImageRecord,
  packImageRecord,
  readRecordIo,
  type ReadRecordIoOptions,
  type RecordFile,
  unpackImageRecord,
  writeRecordIo,
} from "./recordio.ts";
export {
  openRecordIo,
  type OpenRecordIoOptions,
  openRecordPictures,
  RecordIoFile,
  type RecordPicture,
  RecordPictures,
} from "./record_file.ts";
export { RecordIoWriter } from "./record_writer.ts";
export { extractArchive, type ExtractOptions } from "./archive.ts";
export { readTar, type ReadTarOptions, type TarEntry, type TarType } from "./tar.ts";
export type { Channels, Picture, ReadPictureOptions } from "./picture.ts";
export { readPng } from "./png.ts";
export { writePng } from "./png_write.ts";
export { initJpeg, readJpeg } from "./jpeg.ts";
export { readImage } from "./image.ts";
export type { CsvColumn, CsvColumns, CsvTable, CsvType, ReadCsvOptions } from "./csv.ts";
export { readCsv } from "./csv.ts";
export { readWav, type Sound } from "./wav.ts";
export { writeWav } from "./wav_write.ts";
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
