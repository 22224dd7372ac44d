/**
 * @file gzip (RFC 1952) by fflate. The platform's `DecompressionStream` is not used for reading: Deno
 * 2.9 reports truncation, damage and a second member with one and the same unrelated message. fflate
 * tells truncation apart and checks no checksum, so the checksums are checked here.
 */

import { FormatError } from "../format_error.ts";

/** Input bytes decompressed at a time. Deflate expands at most 1032 times: at most 17 MB a piece. */
const PIECE = 16 * 1024;

/** Deflate cannot expand further than this. */
export const MAX_DEFLATE_RATIO = 1032;

/** True if bytes begin with the magic number of gzip. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes.length >= 2 && bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * Decompresses a gzip file piece by piece and hands the output to `sink`, which stops the work by
 * throwing: a small file cannot fill the memory.
 *
 * @param bytes A gzip file of one or more members.
 * @param options `file` is the name for errors; `sink` takes each piece of output in order.
 * @throws {FormatError} If the file is truncated or damaged, with the offset in the compressed file.
 */
export async function gunzip(
  bytes: Uint8Array,
  options: { file: string; sink: (piece: Uint8Array) => void },
): Promise<void> {
  const { file, sink } = options;
  const { Gunzip } = await import("npm:fflate@0.8.3");
  let crc = 0, length = 0, position = 0;
  let sinkError: { error: unknown } | undefined;

  /** Compares a member's last eight bytes, checksum and length, with its output. */
  function endMember(end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (end < 18) throw truncated();
    const storedCrc = view.getUint32(end - 8, true);
    const storedLength = view.getUint32(end - 4, true);
    if (storedCrc !== crc || storedLength !== length % 2 ** 32) {
      throw new FormatError(`gzip checksum ${hex(storedCrc)} of ${storedLength} bytes`, {
        file,
        offset: end - 8,
        expected: `${hex(crc)} of ${length} bytes as decompressed: the file is cut or damaged`,
      });
    }
    crc = 0;
    length = 0;
  }

  function truncated(cause?: unknown): FormatError {
    return new FormatError(`gzip data ends early`, {
      file,
      offset: bytes.length,
      expected: `a whole gzip file`,
      cause,
    });
  }

  const stream = new Gunzip((piece) => {
    crc = crc32(piece, crc);
    length += piece.length;
    try {
      sink(piece);
    } catch (error) {
      sinkError = { error };
      throw error;
    }
  });
  stream.onmember = endMember;
  try {
    for (; position < bytes.length; position += PIECE) {
      const end = Math.min(position + PIECE, bytes.length);
      stream.push(bytes.subarray(position, end), end === bytes.length);
    }
  } catch (error) {
    if (sinkError) throw sinkError.error;
    if (error instanceof FormatError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    if (reason === "unexpected EOF") throw truncated(error);
    throw new FormatError(`damaged gzip data (${reason})`, {
      file,
      offset: position,
      expected: `valid deflate blocks in the ${PIECE} bytes from there`,
      cause: error,
    });
  }
  endMember(bytes.length);
}

/**
 * Compresses bytes as one gzip member with no name and no time in it: the same bytes give the same
 * file on every machine.
 */
export async function gzip(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const { gzipSync } = await import("npm:fflate@0.8.3");
  return gzipSync(bytes, { mtime: 0 }) as Uint8Array<ArrayBuffer>;
}

let crcTable: Uint32Array | undefined;

/**
 * CRC-32 of gzip, zip and PNG (polynomial 0xedb88320, reflected).
 *
 * @param bytes What to sum up.
 * @param crc The CRC of what came before. Default 0.
 */
export function crc32(bytes: Uint8Array, crc = 0): number {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
    return byte;
  });
  let value = ~crc;
  for (let i = 0; i < bytes.length; i++) {
    value = crcTable[(value ^ bytes[i]!) & 0xff]! ^ (value >>> 8);
  }
  return ~value >>> 0;
}

function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, "0")}`;
}
