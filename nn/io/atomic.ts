/** @file Writing a file so that a reader finds the old content or the new, never a part. */

import { needFiles, pathOf } from "./source.ts";

/**
 * Where to write: a path, a `file:` URL, or a stream, as `handle.createWritable()` of a file on a web page.
 * Streams are closed at the end, and aborted after a fault.
 */
export type ByteTarget = string | URL | WritableStream<Uint8Array<ArrayBuffer>>;

/** Names of the temporary files that this process is writing. */
const writing = new Set<string>();

/**
 * Replaces a file in one step: the bytes go to a temporary file in the same folder, which is synced
 * to disk and renamed over `path`. If the process is killed or the disk fills up, `path` keeps its old
 * content. A temporary file that a killed process left is removed by the next write to the same path;
 * two processes must not write the same path at once.
 *
 * @param path The file, whose folder must exist, or a stream.
 * @param content The bytes, or their parts in order.
 * @throws {Error} If the file cannot be written; the temporary file is removed and `path` is as before.
 *
 * @example
 * ```ts
 * import { writeFileAtomic } from "./atomic.ts";
 *
 * await writeFileAtomic("runs/a/config.json", new TextEncoder().encode("{}"));
 * ```
 */
export async function writeFileAtomic(
  path: ByteTarget,
  content: Uint8Array | Iterable<Uint8Array>,
): Promise<void> {
  if (path instanceof WritableStream) return await writeStream(path, content);
  const target = pathOf(path);
  needFiles(`write ${target}`, "give a WritableStream, e.g. handle.createWritable()");
  const { folder, name } = splitPath(target);
  const prefix = `.${name}.`;
  const temporaryName = uniqueName(prefix);
  const temporary = folder + temporaryName;
  writing.add(temporaryName);
  try {
    await writeSynced(temporary, content instanceof Uint8Array ? [content] : content);
    await Deno.rename(temporary, target);
  } catch (error) {
    await Deno.remove(temporary).catch(ignore);
    if (error instanceof Deno.errors.NotCapable) throw error; // names the flag to pass
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot write ${target}: ${reason}`, { cause: error });
  } finally {
    writing.delete(temporaryName);
  }
  await tidyFolder(folder, prefix);
}

/**
 * Where to write the new content of a file before it is renamed: beside the file, under a name that no other
 * process takes.
 */
export function temporaryPath(path: string): string {
  const { folder, name } = splitPath(path);
  return folder + uniqueName(`.${name}.`);
}

/**
 * Makes what is to be written. Where that fails, nothing was written yet, and a stream is aborted.
 *
 * @param path The file or stream that it is for.
 * @param make Makes it.
 */
export async function contentFor<T>(path: ByteTarget, make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (path instanceof WritableStream) await path.abort(error).catch(ignore);
    throw error;
  }
}

function uniqueName(prefix: string): string {
  return `${prefix}${crypto.randomUUID().slice(0, 8)}.tmp`;
}

async function writeStream(
  stream: WritableStream<Uint8Array<ArrayBuffer>>,
  content: Uint8Array | Iterable<Uint8Array>,
): Promise<void> {
  const writer = stream.getWriter();
  try {
    // Copies, for a stream may take over the memory of what it is given.
    for (const part of content instanceof Uint8Array ? [content] : content) {
      await writer.ready;
      await writer.write(part.slice());
    }
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(ignore);
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot write to a stream: ${reason}`, { cause: error });
  } finally {
    writer.releaseLock();
  }
}

/** Writes a new file and waits until the disk has it. */
async function writeSynced(path: string, parts: Iterable<Uint8Array>): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true });
  for (let part of parts) {
    while (part.length > 0) part = part.subarray(await file.write(part));
  }
  await file.sync();
}

/**
 * Syncs the folder, so that the rename outlives a power cut, and removes what killed writers left.
 * The file is whole without either, so what the platform or the permissions refuse is left out.
 */
async function tidyFolder(folder: string, prefix: string): Promise<void> {
  const dir = folder || ".";
  const { state } = await Deno.permissions.query({ name: "read", path: dir });
  if (state !== "granted") return; // no prompt for a nicety
  await syncFolder(dir).catch(ignore); // Windows cannot open a folder
  await removeLeftovers(folder, prefix).catch(ignore);
}

async function syncFolder(dir: string): Promise<void> {
  using handle = await Deno.open(dir, { read: true });
  await handle.sync();
}

async function removeLeftovers(folder: string, prefix: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder || ".")) {
    const ours = name.startsWith(prefix) && /^[0-9a-f]{8}\.tmp$/.test(name.slice(prefix.length));
    if (ours && !writing.has(name)) await Deno.remove(folder + name);
  }
}

/** The folder with its last separator, empty for the current one, and the name. */
function splitPath(path: string): { folder: string; name: string } {
  const end = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1;
  return { folder: path.slice(0, end), name: path.slice(end) };
}

function ignore(): void {}
