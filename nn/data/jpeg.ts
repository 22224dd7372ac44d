/**
 * @file JPEG pictures as bytes: MozJPEG as WebAssembly decodes (`@jsquash/jpeg`, the codec of Squoosh),
 * the markers are checked before it.
 *
 * Measured on 200 photographs of Flickr8k (224x224, one thread of a two-core machine, medians of 7 rounds,
 * images a second): `@jsquash/jpeg` 1.6.0 1,356; `@cornerstonejs/codec-libjpeg-turbo-8bit` 1.2.8 1,056;
 * `sharp` 0.35.5 1,016; `jpeg-js` 0.4.4 355; `@napi-rs/image` 1.15.0 2,833. The last and `sharp` are native
 * code: they need `--allow-ffi` and a binary for each platform, and no browser runs them. The one chosen
 * gives the same bytes as `sharp`, needs no permission but to read its own .wasm file, and works in workers
 * and browsers.
 */

import { checkOptions, given } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { ByteReader } from "../io/byte_reader.ts";
import { type ByteSource, hasFiles, readSource } from "../io/source.ts";
import { MAX_PIXELS, pickChannels, type Picture, type ReadPictureOptions } from "./picture.ts";

const SOI = 0xd8, EOI = 0xd9, SOS = 0xda, DNL = 0xdc;
/** Frames that the decoder reads: baseline, extended and progressive, all with Huffman codes. */
const FRAMES = [0xc0, 0xc1, 0xc2];
/** C4, C8 and CC lie among the frames and are none. */
const NO_FRAMES = [0xc4, 0xc8, 0xcc];
/** A progressive picture has about ten; libjpeg-turbo's own limit for strangers' files is this one. */
const MAX_SCANS = 500;
/** Every block of 8x8 pixels takes at least a bit, so a byte stands for at most this many pixels. */
const MAX_PIXELS_A_BYTE = 512;
/** A decoder's memory never shrinks, so after a picture of more pixels than this the next has a new one. */
const KEEP_PIXELS = 2 ** 23;
/** Warnings of the decoder after which pixels are made up. It has others, about harmless oddities. */
const DAMAGE = /premature end|bad huffman|bad arithmetic|instead of rst/i;

/** What is used of the decoder. */
interface Decoder {
  decode(
    bytes: Uint8Array,
    orient: boolean,
  ): { data: Uint8ClampedArray; width: number; height: number };
}

/** A decoder and what it has complained about since the last picture. */
interface Codec {
  decoder: Decoder;
  warnings: string[];
}

let codec: Promise<Codec> | undefined;
let wasmModule: WebAssembly.Module | undefined;

/**
 * Gives {@linkcode readJpeg} its WebAssembly, `codec/dec/mozjpeg_dec.wasm` of `npm:@jsquash/jpeg@1.6.0`.
 * Deno finds it by itself, and so does a bundled web page that has a copy beside its script; one that serves the
 * file elsewhere calls this first.
 *
 * @param wasm The file's bytes or the compiled module.
 * @throws {TypeError} If it is neither.
 * @throws {WebAssembly.CompileError} If the bytes are no WebAssembly.
 *
 * @example
 * ```ts
 * import { initJpeg } from "./jpeg.ts";
 *
 * const response = await fetch("https://example.com/mozjpeg_dec.wasm");
 * await initJpeg(await response.arrayBuffer());
 * ```
 */
export async function initJpeg(wasm: BufferSource | WebAssembly.Module): Promise<void> {
  if (
    !(wasm instanceof WebAssembly.Module || wasm instanceof ArrayBuffer || ArrayBuffer.isView(wasm))
  ) {
    throw new TypeError(
      `Cannot decode JPEG with ${given(wasm)}: it must be the decoder's bytes, such as ` +
        "await response.arrayBuffer()",
    );
  }
  wasmModule = wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(wasm);
  codec = undefined;
}

/**
 * Reads a JPEG picture: baseline or progressive, grey or in colours (YCbCr or RGB), 8 bits a value. The
 * orientation in EXIF and colour profiles are not applied, as in Pillow's `Image.open`. Decoding takes at
 * most 17 bytes of memory a pixel, and a file is refused whose size says it cannot hold its pixels: at
 * most 512 pixels a byte. A file that is cut or whose data is damaged is an error, never a half grey
 * picture.
 *
 * The first call loads the decoder, which in Deno needs permission to read the module cache.
 *
 * ITU-T T.81, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
 *
 * @param source A path, a URL, a `Blob`, or the file's bytes.
 * @param options The channels to give, 3 or 1 by default as the file has, and the largest picture.
 * @throws {FormatError} If the file is no JPEG, is cut or damaged, is CMYK, lossless or of 12 bits, or has
 * more pixels than allowed.
 *
 * @example
 * ```ts
 * import { readJpeg } from "./jpeg.ts";
 *
 * const { data, width, height } = await readJpeg("a.jpg", { channels: 3 });
 * ```
 */
export async function readJpeg(
  source: ByteSource,
  options: ReadPictureOptions = {},
): Promise<Picture> {
  checkOptions("readJpeg", options, "readJpeg(source, { channels: 3 })");
  const { bytes, file } = await readSource(source, options.file);
  const frame = checkJpeg(bytes, { file, maxPixels: options.maxPixels ?? MAX_PIXELS });
  const { width, height } = frame;
  const { decoder, warnings } = await (codec ??= loadCodec());
  warnings.length = 0;
  let rgba: Uint8ClampedArray | undefined, cause: unknown;
  try {
    rgba = decoder.decode(bytes, false).data;
    if (width * height > KEEP_PIXELS) codec = undefined;
  } catch (error) {
    codec = undefined; // its memory is as the fault left it
    cause = error;
  }
  const damage = warnings.find((warning) => DAMAGE.test(warning));
  if (rgba?.length === 4 * width * height && damage === undefined) {
    const channels = options.channels ?? (frame.components === 1 ? 1 : 3);
    return { data: pickChannels(rgba, channels), width, height, channels };
  }
  throw new FormatError(`damaged image data (${damage ?? warnings[0] ?? "no pixels"})`, {
    file,
    offset: frame.dataStart,
    expected: `${width}x${height} pixels (JPEG)`,
    cause,
  });
}

/** True if bytes begin as a JPEG file does. */
export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === SOI && bytes[2] === 0xff;
}

/** Starts the decoder. Every instance has memory of its own. */
async function loadCodec(): Promise<Codec> {
  const { default: create } = await import("npm:@jsquash/jpeg@1.6.0/codec/dec/mozjpeg_dec.js");
  const warnings: string[] = [];
  const options = {
    noInitialRun: true,
    print: () => {},
    printErr: (line: string) => void warnings.push(line),
    ...(wasmModule && { instantiateWasm: instantiate }),
  };
  try {
    const decoder = await (create as unknown as (o: typeof options) => Promise<Decoder>)(options);
    return { decoder, warnings };
  } catch (error) {
    codec = undefined;
    if (wasmModule !== undefined || hasFiles()) throw error;
    throw new Error(
      "Cannot load the decoder of JPEG: give nn.data.initJpeg the file codec/dec/mozjpeg_dec.wasm of " +
        "npm:@jsquash/jpeg@1.6.0 first",
      { cause: error },
    );
  }
}

/** Instantiates the given module; the form that Emscripten asks for. */
function instantiate(
  imports: WebAssembly.Imports,
  done: (instance: WebAssembly.Instance) => void,
): WebAssembly.Exports {
  const instance = new WebAssembly.Instance(wasmModule!, imports);
  done(instance);
  return instance.exports;
}

/** What the frame header says. */
interface Frame {
  width: number;
  height: number;
  components: number;
  /** Position of the first scan. */
  dataStart: number;
}

/** Walks over the markers to the end of the image: kinds, sizes, that nothing is cut off. */
function checkJpeg(bytes: Uint8Array, options: { file: string; maxPixels: number }): Frame {
  const reader = new ByteReader(bytes, { file: options.file });
  if (!isJpeg(bytes)) throw reader.fault("another signature", "0xffd8ff (JPEG)", 0);
  reader.at = 2;
  let frame: Frame | undefined, dataStart = 0;
  for (let scans = 0;;) {
    const at = reader.at, marker = readMarker(reader);
    if (marker === EOI) break;
    const isFrame = marker >> 4 === 0xc && !NO_FRAMES.includes(marker);
    if (isFrame && (frame || !FRAMES.includes(marker))) {
      const found = frame ? "second frame" : `frame of kind SOF${marker - 0xc0}`;
      throw reader.fault(found, "one, baseline (SOF0), extended (1) or progressive (2)", at);
    }
    // Markers of no length inside a header, and heights that come after the image.
    if (marker < 0xc0 || (marker >= 0xd0 && marker <= SOI) || marker === DNL) {
      throw reader.fault(`marker 0xff${marker.toString(16)}`, "a marker of a segment (JPEG)", at);
    }
    const length = readU16(reader);
    if (length < 2) throw reader.fault(`segment of ${length} bytes`, "at least 2", at + 2);
    const body = reader.take(length - 2, "segment");
    if (isFrame) frame = readFrame(body, reader, { at, maxPixels: options.maxPixels });
    if (marker !== SOS) continue;
    if (!frame || ++scans > MAX_SCANS) {
      const found = frame ? `${scans} scans` : "scan before the frame";
      throw reader.fault(found, `a frame and at most ${MAX_SCANS} scans (JPEG)`, at);
    }
    dataStart ||= at;
    reader.at = endOfScan(bytes, reader.at);
  }
  if (!frame || dataStart === 0) throw reader.fault("no image", "a frame and a scan (JPEG)");
  return { ...frame, dataStart };
}

/** The code of the next marker, which fill bytes of 0xff may precede. */
function readMarker(reader: ByteReader): number {
  const at = reader.at;
  if (reader.u8("marker") !== 0xff) throw reader.fault("no marker", "0xff (JPEG)", at);
  let code = reader.u8("marker");
  while (code === 0xff) code = reader.u8("marker");
  return code;
}

/** Where the coded data ends: at a marker that is neither a stuffed 0xff nor a restart. */
function endOfScan(bytes: Uint8Array, start: number): number {
  for (let at = bytes.indexOf(0xff, start); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    const next = bytes[at + 1];
    if (next !== 0 && next !== 0xff && !(next! >= 0xd0 && next! <= 0xd7)) return at;
  }
  return bytes.length;
}

function readFrame(
  body: Uint8Array,
  reader: ByteReader,
  options: { at: number; maxPixels: number },
): Frame {
  const { at, maxPixels } = options;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const components = body.length < 6 ? 0 : body[5]!;
  if (components === 0 || body.length !== 6 + 3 * components) {
    throw reader.fault(`frame of ${body.length} bytes`, "6, and 3 a component (JPEG)", at);
  }
  const bits = body[0]!, height = view.getUint16(1), width = view.getUint16(3);
  if (bits !== 8 || (components !== 1 && components !== 3)) {
    const found = components === 4 ? "CMYK" : `${components} components`;
    throw reader.fault(`${found} of ${bits} bits`, "grey or RGB of 8 bits", at + 4);
  }
  const most = Math.min(maxPixels, MAX_PIXELS_A_BYTE * reader.bytes.length);
  if (width === 0 || height === 0 || width * height > most) {
    const expected = most === maxPixels
      ? `1 to ${maxPixels} in all (maxPixels)`
      : `1 to ${most}, which ${reader.bytes.length} bytes can hold (JPEG)`;
    throw reader.fault(`${width}x${height} pixels`, expected, at + 5);
  }
  return { width, height, components, dataStart: 0 };
}

/** Two bytes, the higher first. */
function readU16(reader: ByteReader): number {
  return reader.u8("segment") * 256 + reader.u8("segment");
}
