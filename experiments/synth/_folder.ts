/** @file A folder of drawn data that appears whole or not at all. */

import { RunError } from "../../nn/run/mod.ts";

/** What is drawn into a folder. */
export interface DrawnFolder {
  /** What the data are called in errors, e.g. `letters`; `NAME.json` marks the folder. */
  readonly name: string;
  /** Everything the files depend on. A folder with the same manifest is left as it is. */
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Files that must be there for the folder to count as whole. */
  readonly files: readonly string[];
  /** Writes the files into a folder. */
  readonly draw: (dir: string) => Promise<void>;
}

/**
 * Draws the files into `dir` unless they are there. The folder appears in one step, so a killed process
 * leaves none half written.
 *
 * @param dir The folder. Older drawn data of the same name in it are replaced.
 * @returns Whether anything was drawn.
 * @throws {RunError} `dir` holds something else.
 */
export async function drawFolder(dir: string, folder: DrawnFolder): Promise<boolean> {
  const { name, draw } = folder;
  const manifest = JSON.stringify(folder.manifest);
  if (await readManifest(dir, folder) === manifest) return false;
  if (!(await isReplaceable(dir, `${name}.json`))) {
    throw new RunError(
      `Cannot write the built-in ${name} to ${dir}: the folder holds something else; ` +
        `choose an empty or a new folder`,
    );
  }
  const temporary = `${dir.replace(/[/\\]+$/, "")}.${crypto.randomUUID()}.tmp`;
  await Deno.mkdir(temporary, { recursive: true });
  try {
    await draw(temporary);
    await Deno.writeTextFile(`${temporary}/${name}.json`, manifest);
    await moveFolder(temporary, dir);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    // Another process may have drawn the same data meanwhile.
    if (await readManifest(dir, folder) !== manifest) throw error;
  }
  return true;
}

/** The manifest of a folder that holds all of its files, else undefined. */
async function readManifest(dir: string, folder: DrawnFolder): Promise<string | undefined> {
  try {
    for (const file of folder.files) await Deno.stat(`${dir}/${file}`);
    return await Deno.readTextFile(`${dir}/${folder.name}.json`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Whether `dir` is absent, empty or has the mark of drawn data. */
async function isReplaceable(dir: string, mark: string): Promise<boolean> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(dir)) names.push(entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
  return names.length === 0 || names.includes(mark);
}

/** Renames the folder `from` to `to`; what `to` held is gone afterwards. */
async function moveFolder(from: string, to: string): Promise<void> {
  const old = `${from}.old`;
  let replaced = true;
  try {
    await Deno.rename(to, old);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    replaced = false;
  }
  await Deno.rename(from, to);
  if (replaced) await Deno.remove(old, { recursive: true });
}
