/** @file Where a reader's bytes come from: a path, a URL, a blob, or bytes at hand. */

import { FormatError } from "../format_error.ts";

/**
 * A file to read: a path, a URL (`file:`, `http:` or `https:`, also as text), a `Blob` (so a `File` that
 * somebody chose or dropped), or its bytes. On a web page, which has no files, a path is one below the page.
 */
export type ByteSource = string | URL | Blob | Uint8Array;

/** What is on disk or at hand. */
export type LocalSource = string | URL | Uint8Array;

/** Bytes and the name that errors use for them. */
export interface SourceBytes {
  /** The whole content. */
  bytes: Uint8Array;
  /** The path or URL as given, a `File`'s name, or the name given for bytes. */
  file: string;
}

/** The path of a file that is named by its path or its URL. */
export function pathOf(file: string | URL): string {
  return file instanceof URL ? decodeURIComponent(file.pathname) : file;
}

/** Whether there are files: in Deno, not on a web page, also where it has a part of `Deno`. */
export function hasFiles(): boolean {
  return "Deno" in globalThis && "readFile" in Deno;
}

/** A web page has no file system. */
export class NoFilesError extends Error {
  override name = "NoFilesError";
}

/**
 * Refuses on a web page what needs a file system.
 *
 * @param what What cannot be done there, e.g. `read a.bin`.
 * @param instead What can be done in its place, e.g. `give a Blob`.
 * @throws {NoFilesError} On a web page.
 */
export function needFiles(what: string, instead?: string): void {
  if (hasFiles()) return;
  throw new NoFilesError(`Cannot ${what}: a web page has no files${instead ? `; ${instead}` : ""}`);
}

/** The URL that a source has to be fetched from; none for what is on disk. */
export function remoteUrl(source: string | URL): URL | undefined {
  const url = URL.parse(source, hasFiles() ? undefined : globalThis.location?.href);
  return url !== null && /^(https?|blob):$/.test(url.protocol) ? url : undefined;
}

/**
 * The bytes of a source.
 *
 * @param source A path, a URL, a blob, or the bytes themselves, which are not copied.
 * @param name What errors call bytes. Default `bytes`.
 * @throws {Deno.errors.NotFound} If there is no such file, or a server answers so; on a web page a
 * `DOMException` of the name `NotFoundError`. Other failures to read pass through with the path in the
 * message.
 */
export async function readSource(source: ByteSource, name = "bytes"): Promise<SourceBytes> {
  const file = sourceName(source, name);
  if (source instanceof Uint8Array) return { bytes: source, file };
  return { bytes: await reading(file, () => readAll(source)), file };
}

/** What errors call a source: its path or URL, a `File`'s name, or `name`. */
export function sourceName(source: ByteSource, name: string): string {
  if (source instanceof Uint8Array) return name;
  return source instanceof Blob ? nameOf(source, name) : pathOrUrl(source);
}

/** The bytes of a source as they arrive; for failures see {@linkcode readSource}. */
export async function streamSource(
  source: Exclude<ByteSource, Uint8Array>,
  name: string,
): Promise<{ stream: ReadableStream<Uint8Array>; file: string }> {
  const file = sourceName(source, name);
  return { stream: await reading(file, () => openAny(source)), file };
}

function nameOf(blob: Blob, name: string): string {
  return blob instanceof File && blob.name !== "" ? blob.name : name;
}

function pathOrUrl(source: string | URL): string {
  return remoteUrl(source)?.href ?? pathOf(source);
}

async function readAll(source: Exclude<ByteSource, Uint8Array>): Promise<Uint8Array> {
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  const url = remoteUrl(source);
  if (url) return new Uint8Array(await (await download(url)).arrayBuffer());
  needFiles(`read ${source}`, "give a Blob, bytes or an address of http");
  return await Deno.readFile(source);
}

async function openAny(
  source: Exclude<ByteSource, Uint8Array>,
): Promise<ReadableStream<Uint8Array>> {
  if (source instanceof Blob) return source.stream();
  const url = remoteUrl(source);
  if (url) return (await download(url)).body ?? new Blob().stream();
  needFiles(`read ${source}`, "give a Blob, bytes or an address of http");
  return (await Deno.open(source)).readable;
}

/**
 * The answer of a server.
 *
 * @param url What to ask for.
 * @param range First and last byte, to have a part. Servers may answer with the whole all the same.
 * @throws If it answers that it cannot, without the URL; see {@linkcode reading}.
 */
export async function download(url: URL, range?: readonly [number, number]): Promise<Response> {
  const headers = range ? { range: `bytes=${range[0]}-${range[1]}` } : undefined;
  const response = await fetch(url, { headers });
  if (response.ok) return response;
  await response.body?.cancel();
  const { status, statusText } = response;
  const reason = `the server answered ${status} ${statusText}`.trim();
  throw status === 404 || status === 410 ? new NoSuchFile(reason) : new Error(reason);
}

/** A server has no such file. */
class NoSuchFile extends Error {}

/** Does what reads a file; failures say which. */
export async function reading<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw readError(file, error);
  }
}

/** The error for a file that cannot be read; one that names the permission to give stays as it is. */
export function readError(file: string, cause: unknown): unknown {
  if (cause instanceof NoFilesError || cause instanceof FormatError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof NoSuchFile) return notFound(`Cannot read ${file}: ${reason}`, cause);
  if (!hasFiles()) return new Error(`Cannot read ${file}: ${reason}`, { cause });
  if (cause instanceof Deno.errors.NotFound) {
    return new Deno.errors.NotFound(`Cannot read ${file}: no such file`, { cause });
  }
  if (cause instanceof Deno.errors.NotCapable) return cause; // names the flag to pass
  return new Error(`Cannot read ${file}: ${reason}`, { cause });
}

function notFound(message: string, cause: Error): Error {
  if (hasFiles()) return new Deno.errors.NotFound(message, { cause });
  return new DOMException(message, "NotFoundError");
}
