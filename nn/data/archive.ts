/** @file Archives unpacked into a folder: tar, tar.gz and zip. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { type OpenRange, openRange } from "../io/byte_range.ts";
import { quote } from "../io/json_scan.ts";
import { type ByteSource, needFiles } from "../io/source.ts";
import { isZip, readZip, readZipEntry, type ZipEntry } from "../io/zip.ts";
import { readTar } from "./tar.ts";

/** Options of {@linkcode extractArchive}. */
export interface ExtractOptions {
  /** Most bytes to write in all. Default 2^33, 8 GiB. */
  maxBytes?: number;
  /** What errors call bytes that have no path. Default `bytes`. */
  file?: string;
}

/** One file of an archive. */
interface Member {
  name: string;
  directory: boolean;
  size: number;
  /** Position in the archive. */
  offset: number;
  pieces(): AsyncIterable<Uint8Array>;
}

/**
 * Unpacks an archive into a folder; the first bytes tell whether it is tar, gzip (of a tar) or zip. Files
 * that exist are not overwritten. Names that lead out of the folder (absolute ones, `..`, backslashes) and
 * links are refused, before any byte of theirs is written; what stood before them in the archive is there.
 *
 * Tar is read piece by piece, of zip one entry is in memory at a time.
 *
 * @param source A path, a URL, a `Blob`, or the archive's bytes.
 * @param dir The folder, which is made if need be.
 * @param options The most bytes to write, and the archive's name for errors.
 * @returns The paths of the files, relative to the folder, in the order of the archive.
 * @throws {FormatError} If the archive is cut or damaged, would write more than `maxBytes`, or has a name or
 * a link as above.
 * @throws {Deno.errors.AlreadyExists} If a file exists, or the archive has it twice.
 *
 * @example
 * ```ts
 * import { extractArchive } from "./archive.ts";
 * import { openImageFolder } from "./image_folder.ts";
 *
 * await extractArchive("birds.tar.gz", ".cache/birds");
 * const birds = await openImageFolder(".cache/birds/train");
 * ```
 */
export async function extractArchive(
  source: ByteSource,
  dir: string | URL,
  options: ExtractOptions = {},
): Promise<string[]> {
  checkOptions("extractArchive", options, "extractArchive(source, dir, { maxBytes: 1e9 })");
  const { maxBytes = 2 ** 33 } = options;
  const root = dir instanceof URL ? decodeURIComponent(dir.pathname).replace(/\/$/, "") : dir;
  needFiles(`unpack an archive into ${root}`, "nn.data.readTar gives what is in a tar archive");
  using open = await openRange(source, options.file);
  const name = open.file;
  await Deno.mkdir(root, { recursive: true });
  const paths: string[] = [];
  let left = maxBytes;
  for await (const member of membersOf(open)) {
    const { offset, size } = member, expected = `at most ${left} (maxBytes)`;
    const path = safePath(member, name);
    if (size > left) {
      throw new FormatError(`${size} bytes of ${quote(path)}`, { file: name, offset, expected });
    }
    left -= size;
    const parent = member.directory ? path : path.slice(0, Math.max(0, path.lastIndexOf("/")));
    await Deno.mkdir(`${root}/${parent}`, { recursive: true });
    if (member.directory) continue;
    await write(`${root}/${path}`, member);
    paths.push(path);
  }
  return paths;
}

/** Files and folders of an archive of any kind. */
async function* membersOf({ range, file, path }: OpenRange): AsyncGenerator<Member> {
  if (!isZip(range.subarray(0, 4))) {
    const archive = path ?? range.subarray(0, range.length);
    for await (const entry of readTar(archive, { file })) {
      const { name, type, size, offset } = entry;
      if (type === "link" || type === "device") {
        const expected = "files and folders alone";
        throw new FormatError(`${type} ${quote(name)}`, { file, offset, expected });
      }
      yield { name, directory: type === "directory", size, offset, pieces: () => entry.pieces() };
    }
    return;
  }
  async function* unzip(entry: ZipEntry): AsyncGenerator<Uint8Array> {
    yield await readZipEntry(range, entry, { file });
  }
  for (const entry of readZip(range, { file }).values()) {
    const { name, size, start: offset } = entry;
    yield { name, directory: name.endsWith("/"), size, offset, pieces: () => unzip(entry) };
  }
}

/** A name as a path below the folder, without `.` and empty parts. */
function safePath({ name, directory, offset }: Member, file: string): string {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  const leadsOut = name.startsWith("/") || parts.includes("..") || /[\\\0]|^[a-z]:/i.test(name);
  if (leadsOut || (parts.length === 0 && !directory)) {
    const expected = "a path that stays in the folder";
    throw new FormatError(`entry ${quote(name)}`, { file, offset, expected });
  }
  return parts.join("/");
}

async function write(path: string, member: Member): Promise<void> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { write: true, createNew: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    throw new Deno.errors.AlreadyExists(`Cannot write ${path}: it exists`, { cause: error });
  }
  using open = file;
  for await (let piece of member.pieces()) {
    while (piece.length > 0) piece = piece.subarray(await open.write(piece));
  }
}
