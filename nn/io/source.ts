/** @file Where a reader's bytes come from: a path, a URL, a blob, or bytes at hand. */

import { given } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";

/**
 * A file to read: a path, a URL (`file:`, `http:` or `https:`, also as text), a `Blob` (so a `File` that
 * somebody chose or dropped), or its bytes. On a web page, which has no files, a path is what it is in a link
 * of the page; in a worker it starts from the worker's script.
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
  const url = URL.parse(source, hasFiles() ? undefined : pageAddress());
  return url !== null && /^(https?|blob):$/.test(url.protocol) ? url : undefined;
}

/** What relative addresses start from: that of the page, or what it has in `<base>`; in a worker its script. */
function pageAddress(): string | undefined {
  const { document } = globalThis as { document?: { baseURI: string } };
  return document?.baseURI ?? globalThis.location?.href;
}

/** How to get at the bytes of what is often taken for a source. */
const INSTEAD: Readonly<Record<string, string>> = {
  ArrayBuffer: "new Uint8Array(buffer)",
  DataView: "new Uint8Array(view.buffer, view.byteOffset, view.byteLength)",
  FileList: "files[0]",
  FileSystemFileHandle: "await handle.getFile()",
  ReadableStream: "await new Response(stream).blob()",
  Response: "await response.blob()",
};

/**
 * @throws {TypeError} If it is no source, as only the types rule out.
 */
function checkSource(source: unknown): void {
  if (typeof source === "string" || source instanceof URL || source instanceof Blob) return;
  if (source instanceof Uint8Array) return;
  const instead = INSTEAD[(source as object | null | undefined)?.constructor?.name ?? ""];
  throw new TypeError(
    `Cannot read ${given(source)}: it must be a path, a URL, a Blob or a Uint8Array` +
      (instead ? `, as is ${instead}` : ""),
  );
}

/**
 * The bytes of a source.
 *
 * @param source A path, a URL, a blob, or the bytes themselves, which are not copied.
 * @param name What errors call bytes. Default `bytes`.
 * @throws {Deno.errors.NotFound} If there is no such file, or a server answers so; on a web page a
 * `DOMException` of the name `NotFoundError`. Other failures to read pass through with the path in the
 * message.
 * @throws {TypeError} If it is no source.
 */
export async function readSource(source: ByteSource, name = "bytes"): Promise<SourceBytes> {
  const file = sourceName(source, name);
  if (source instanceof Uint8Array) return { bytes: source, file };
  return { bytes: await reading(file, () => readAll(source)), file };
}

/**
 * What errors call a source: its path or URL, a `File`'s name, or `name`.
 *
 * @throws {TypeError} If it is no source.
 */
export function sourceName(source: ByteSource, name: string): string {
  checkSource(source);
  if (source instanceof Uint8Array) return name;
  return source instanceof Blob ? nameOf(source, name) : pathOrUrl(source);
}

/** The bytes of a source as they arrive; for failures see {@linkcode readSource}. */
export async function streamSource(
  source: Exclude<ByteSource, Uint8Array>,
  name: string,
): Promise<{ stream: ReadableStream<Uint8Array>; file: string }> {
  const file = sourceName(source, name);
  const stream = await reading(file, () => openAny(source));
  return { stream: naming(file, stream), file };
}

/** A stream whose faults say which file broke off. */
function naming(file: string, stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = stream.getReader();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await reading(file, () => reader.read());
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
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
  if (url) return await bodyOf(await download(url));
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
  const response = await fetch(url, { headers }).catch((error) => {
    throw hasFiles() ? error : unanswered(url, error);
  });
  if (response.ok) return response;
  await response.body?.cancel();
  const { status, statusText } = response;
  const reason = `the server answered ${status} ${statusText}`.trim();
  throw status === 404 || status === 410 ? new NoSuchFile(reason) : new Error(reason);
}

/** A browser does not tell a page why there is no answer, only its console. */
function unanswered(url: URL, cause: Error): Error {
  const elsewhere = url.origin !== globalThis.location?.origin;
  const why = elsewhere ? "; a server elsewhere must let this page read it by CORS" : "";
  return new Error(`no answer (${cause.message})${why}`, { cause });
}

/**
 * The bytes of an answer, or the first ones where they are a part.
 *
 * @throws If it breaks off, or is a web page; without the URL, see {@linkcode reading}.
 */
export async function bodyOf(response: Response): Promise<Uint8Array> {
  const buffer = await response.arrayBuffer().catch((cause) => {
    throw new Error(`the answer broke off (${cause.message})`, { cause });
  });
  const bytes = new Uint8Array(buffer);
  if (!isWebPage(response, bytes)) return bytes;
  throw new Error("the server answered with a web page, as some do where there is no such file");
}

function isWebPage({ headers }: Response, bytes: Uint8Array): boolean {
  if (!/^text\/html\b/i.test(headers.get("content-type") ?? "")) return false;
  return /^\s*<(!doctype html|html)\b/i.test(new TextDecoder().decode(bytes.subarray(0, 256)));
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
