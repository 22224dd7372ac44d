/** @file Every reader of files, with valid files, hostile ones and what it may allocate. */

import "./allocation.ts"; // before what it counts
import { archiveReaders } from "./archive_readers.ts";
import { weightReaders } from "./weight_readers.ts";
import { dataReaders } from "./data_readers.ts";

/** A file to start from. */
export interface Seed {
  /** What is mutated: the whole file, or a part of it that `wrap` puts a right file around. */
  content: Uint8Array;
  /** Makes the file, with the checksums that readers check. Default: the content is the file. */
  wrap?: (content: Uint8Array) => Uint8Array;
  /** Whether a reader must refuse the file as it is. Default false. */
  hostile?: boolean;
}

/** A reader under test. */
export interface Reader {
  /** What `--reader` calls it. */
  name: string;
  /** Files of its format. */
  seeds: () => Seed[] | Promise<Seed[]>;
  /** Reads a file and checks that what it gives agrees with itself. */
  read: (bytes: Uint8Array) => unknown;
  /** Bytes the reader may take in buffers for a byte of the file, beside {@linkcode SLACK}. */
  expansion: number;
}

/** Bytes every reader may take, whatever the file: the decompressor's tables and first pieces. */
export const SLACK = 1 << 20;

/** All readers by name. */
export function allReaders(): Reader[] {
  return [...weightReaders(), ...archiveReaders(), ...dataReaders()];
}
