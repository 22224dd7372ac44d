/** @file pngjs, in Deno and on web pages. */

import { hasFiles } from "../io/source.ts";

type Pngjs = typeof import("npm:pngjs@7.0.0").PNG;

/** pngjs and the `Buffer` that it reads from: Node's, which Deno has, or the one in its build for web pages. */
export async function loadPngjs(): Promise<{ PNG: Pngjs; Buffer: typeof Buffer }> {
  const { PNG } = hasFiles()
    ? await import("npm:pngjs@7.0.0")
    : (await import("npm:pngjs@7.0.0/browser.js")).default as { PNG: Pngjs };
  const { data } = new PNG({ width: 1, height: 1 });
  return { PNG, Buffer: data.constructor as typeof Buffer };
}
