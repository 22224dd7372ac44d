/**
 * @file Sound from WAV files: PCM of 8 to 32 bits and floats of 32 and 64.
 *
 * Microsoft, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), 1991, and
 * "Multiple channel audio data and WAVE files" (the extensible format), 2007.
 */

import { ByteReader } from "../io/byte_reader.ts";
import { type ByteSource, readSource } from "../io/source.ts";

const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe;

/** Sound in memory. */
export interface Sound {
  /** Values `[channels, frames]` in row-major order; PCM is scaled to -1 (inclusive) to 1. */
  samples: Float32Array<ArrayBuffer>;
  /** Frames in a second. */
  sampleRate: number;
  /** Channels. */
  channels: number;
  /** Samples of a channel. */
  frames: number;
}

/**
 * Reads a WAV file. Integers of n bits are divided by 2^(n-1), unsigned ones of 8 bits less 128 before.
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options `file` is what errors call bytes that have no path. Default `bytes`.
 * @throws {FormatError} If the file is no WAV, is cut, or its sound is compressed.
 *
 * @example
 * ```ts
 * import { readWav } from "./wav.ts";
 *
 * const { samples, sampleRate } = await readWav("a.wav");
 * ```
 */
export async function readWav(
  source: ByteSource,
  options: { file?: string } = {},
): Promise<Sound> {
  const { bytes, file } = await readSource(source, options.file);
  const head = new ByteReader(bytes, { file });
  const riff = tag(head), size = head.u32("RIFF size"), wave = tag(head);
  if (riff !== "RIFF" || wave !== "WAVE") throw head.fault("another header", "RIFF, WAVE", 0);
  if (size < 4 || size > bytes.length - 8) {
    throw head.fault(`RIFF size ${size}`, `4 to ${bytes.length - 8}, the rest of the file`, 4);
  }
  const reader = new ByteReader(bytes, { file, at: head.at, end: 8 + size });
  let format: Format | undefined;
  while (reader.left > 0) {
    const at = reader.at, type = tag(reader), length = reader.u32("chunk size");
    const start = reader.at;
    reader.take(length, `chunk ${JSON.stringify(type)}`);
    if (type === "fmt ") {
      if (format) throw reader.fault("second format", "one (WAV)", at);
      format = readFormat(new ByteReader(bytes, { file, at: start, end: start + length }));
    } else if (type === "data") {
      if (!format) throw reader.fault("sound before its format", "the format first (WAV)", at);
      return readSamples(new ByteReader(bytes, { file, at: start, end: start + length }), format);
    }
    if (length % 2 === 1 && reader.left > 0) reader.take(1, "padding");
  }
  throw reader.fault("no sound", "a chunk of data (WAV)");
}

/** How the samples are stored. */
interface Format {
  float: boolean;
  channels: number;
  sampleRate: number;
  bits: number;
}

function tag(reader: ByteReader): string {
  return new TextDecoder("latin1").decode(reader.take(4, "chunk type"));
}

function readFormat(reader: ByteReader): Format {
  const at = reader.at;
  let code = reader.u16("format");
  const channels = reader.u16("channels"), sampleRate = reader.u32("sample rate");
  reader.u32("byte rate");
  const block = reader.u16("block size"), bits = reader.u16("bits");
  if (code === EXTENSIBLE) {
    reader.take(8, "extension"); // its size, valid bits, which speakers
    code = reader.u16("format");
  }
  const known = code === PCM ? [8, 16, 24, 32] : code === FLOAT ? [32, 64] : [];
  if (!known.includes(bits)) {
    const expected = "PCM (1) of 8, 16, 24 or 32 bits or float (3) of 32 or 64";
    throw reader.fault(`format ${code} of ${bits} bits`, expected, at);
  }
  if (channels === 0 || sampleRate === 0 || block !== channels * bits / 8) {
    const found = `${channels} channels at ${sampleRate} Hz in blocks of ${block} bytes`;
    throw reader.fault(found, `blocks of one sample for each channel (WAV)`, at);
  }
  return { float: code === FLOAT, channels, sampleRate, bits };
}

function readSamples(reader: ByteReader, format: Format): Sound {
  const { float, channels, sampleRate, bits } = format;
  const width = bits / 8, block = channels * width, frames = Math.floor(reader.left / block);
  if (reader.left !== frames * block) {
    const found = `${reader.left} bytes of sound`;
    throw reader.fault(found, `a multiple of ${block}, the bytes of a frame (WAV)`);
  }
  const bytes = reader.take(frames * block, "sound");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const samples = new Float32Array(channels * frames);
  for (let channel = 0; channel < channels; channel++) {
    for (let frame = 0, at = channel * width; frame < frames; frame++, at += block) {
      samples[channel * frames + frame] = readSample(view, at, float ? -bits : bits);
    }
  }
  return { samples, sampleRate, channels, frames };
}

/** One sample; floats have a negative number of bits. */
function readSample(view: DataView, at: number, bits: number): number {
  switch (bits) {
    case 8:
      return (view.getUint8(at) - 128) / 2 ** 7;
    case 16:
      return view.getInt16(at, true) / 2 ** 15;
    case 24:
      return (view.getUint16(at, true) + view.getInt8(at + 2) * 2 ** 16) / 2 ** 23;
    case 32:
      return view.getInt32(at, true) / 2 ** 31;
    case -32:
      return view.getFloat32(at, true);
    default:
      return view.getFloat64(at, true);
  }
}
