/** @file Where a reader's bytes come from: a path, a file URL, or bytes at hand. */

/** A file to read: a path, a `file:` URL, or its bytes. */
export type ByteSource = string | URL | Uint8Array;

/** Bytes and the name that errors use for them. */
export interface SourceBytes {
  /** The whole content. */
  bytes: Uint8Array;
  /** The path as given, or the name given for bytes. */
  file: string;
}

/** The path of a file that is named by its path or its URL. */
export function pathOf(file: string | URL): string {
  return file instanceof URL ? decodeURIComponent(file.pathname) : file;
}

/**
 * The bytes of a source.
 *
 * @param source A path, a `file:` URL, or the bytes themselves, which are not copied.
 * @param name What errors call bytes. Default `bytes`.
 * @throws {Deno.errors.NotFound} If there is no such file. Other failures to read pass through with
 * the path in the message.
 */
export async function readSource(source: ByteSource, name = "bytes"): Promise<SourceBytes> {
  if (source instanceof Uint8Array) return { bytes: source, file: name };
  const file = pathOf(source);
  try {
    return { bytes: await Deno.readFile(source), file };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Deno.errors.NotFound(`Cannot read ${file}: no such file`, { cause: error });
    }
    if (error instanceof Deno.errors.NotCapable) throw error; // names the flag to pass
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot read ${file}: ${reason}`, { cause: error });
  }
}
