/** @file A thread that decodes JPEG files from memory: what the loader is compared with. */

import { readJpeg } from "../nn/data/jpeg.ts";

/** Files to read first; without any, those in memory are decoded once. */
export interface DecodeMessage {
  paths?: readonly string[];
}

/** How many files it was. */
export type DecodeAnswer = number;

/** The worker's own global object; the types are those of a page. */
interface Scope {
  onmessage: (event: MessageEvent<DecodeMessage>) => void;
  postMessage(answer: DecodeAnswer): void;
}

const WARM_UP = 50;
const scope = globalThis as unknown as Scope;
let files: Uint8Array[] = [];

async function decode(some: readonly Uint8Array[]): Promise<number> {
  for (const bytes of some) await readJpeg(bytes, { channels: 3 });
  return some.length;
}

scope.onmessage = async ({ data: { paths } }) => {
  if (paths) files = paths.map((path) => Deno.readFileSync(path));
  scope.postMessage(await decode(paths ? files.slice(0, WARM_UP) : files));
};
