/** Zip archives for tests of readers, right ones and wrong ones. */

import { deflateSync } from "npm:fflate@0.8.3";
import { crc32 } from "../../nn/io/gzip.ts";

/** An entry; what is not given follows from `data`. */
export interface TestZipEntry {
  name: string;
  data: Uint8Array;
  /** Whether to compress. Default false. */
  deflate?: boolean;
  /** Fields of the directory to write as they are, in place of the right ones. */
  lies?: { method?: number; flags?: number; size?: number; crc?: number; offset?: number };
  /** Name in the local header. Default `name`. */
  localName?: string;
}

/** Options of {@linkcode zipFile}. */
export interface ZipFileOptions {
  /** Writes the zip64 records before the end record, as PyTorch does; `wide` needs them. */
  zip64?: boolean | "wide";
  /** Comment at the end of the file. */
  comment?: string;
}

/** Little-endian numbers: `[bytes, value]` each. */
export function le(...fields: [number, number | bigint][]): number[] {
  return fields.flatMap(([size, value]) =>
    Array.from(
      { length: size },
      (_, i) => Number(BigInt.asUintN(64, BigInt(value)) >> BigInt(8 * i) & 255n),
    )
  );
}

/** The bytes of a zip archive. */
export function zipFile(entries: TestZipEntry[], options: ZipFileOptions = {}): Uint8Array {
  const { zip64 = false, comment = "" } = options;
  const body: number[] = [], directory: number[] = [];
  const wide = zip64 === "wide";
  for (const { name, data, deflate = false, lies = {}, localName = name } of entries) {
    const packed = deflate ? deflateSync(data) : data;
    const { method = deflate ? 8 : 0, flags = 0, size = data.length, crc = crc32(data) } = lies;
    const at = lies.offset ?? body.length;
    const path = new TextEncoder().encode(name), local = new TextEncoder().encode(localName);
    const common = le([2, flags], [2, method], [4, 0x21 << 16], [4, crc]);
    const sizes = le([4, packed.length], [4, size]);
    body.push(...le([4, 0x04034b50], [2, 45]), ...common, ...sizes, ...le([2, local.length]));
    body.push(...le([2, 4]), ...local, ...le([2, 0x4246], [2, 0]));
    for (const byte of packed) body.push(byte);
    const extra = wide ? le([2, 1], [2, 24], [8, size], [8, packed.length], [8, at]) : [];
    directory.push(...le([4, 0x02014b50], [2, 45], [2, 45]), ...common);
    directory.push(...(wide ? le([4, -1], [4, -1]) : sizes), ...le([2, path.length]));
    directory.push(...le([2, extra.length], [2, 0], [2, 0], [2, 0], [4, 0], [4, wide ? -1 : at]));
    directory.push(...path, ...extra);
  }
  const count = entries.length, start = body.length, end = start + directory.length;
  const note = new TextEncoder().encode(comment);
  const end64 = zip64
    ? [
      ...le([4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count]),
      ...le([8, directory.length], [8, start], [4, 0x07064b50], [4, 0], [8, end], [4, 1]),
    ]
    : [];
  const last = wide
    ? le([4, 0x06054b50], [4, 0], [2, -1], [2, -1], [4, -1], [4, -1])
    : le([4, 0x06054b50], [4, 0], [2, count], [2, count], [4, directory.length], [4, start]);
  return Uint8Array.from([
    ...body,
    ...directory,
    ...end64,
    ...last,
    ...le([2, note.length]),
    ...note,
  ]);
}
