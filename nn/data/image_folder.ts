/** @file Pictures in a folder for each class: `train/cat/1.png`, `train/dog/2.jpg`. */

import { checkOptions } from "../../engine/arguments.ts";
import { needFiles } from "../io/source.ts";
import type { Dataset, WorkerSource } from "./dataset.ts";
import { readImage } from "./image.ts";
import type { Channels, Picture } from "./picture.ts";

/** A picture and its class. */
export interface LabeledPicture extends Picture {
  /** Position of the class in {@linkcode ImageFolder.classes}. */
  label: number;
}

/** Options of {@linkcode openImageFolder}. */
export interface ImageFolderOptions {
  /** Values of a pixel: 1 (grey), 3 (RGB) or 4 (RGBA). Default 3. */
  channels?: Channels;
  /** Ends of names to take, in any case. Default `.png`, `.jpg` and `.jpeg`. */
  extensions?: readonly string[];
}

/** What {@linkcode openImageFolder} finds. */
export interface FoundPictures {
  /** Names of the classes: the folders, sorted by code unit. */
  classes: readonly string[];
  /** The files with their labels, sorted by class and path. */
  files: readonly { path: string; label: number }[];
}

/** A data set of the PNG and JPEG pictures under a folder; they are read when asked for, also by workers. */
export class ImageFolder implements Dataset<LabeledPicture> {
  /** Names of the classes: the folders, sorted by code unit. */
  readonly classes: readonly string[];
  /** The files with their labels, sorted by class and path. */
  readonly files: readonly { path: string; label: number }[];
  /** How a worker opens the same pictures. */
  readonly worker: WorkerSource;
  readonly #channels: Channels;

  /** @param found Classes and files; {@linkcode openImageFolder} finds them. */
  constructor(found: FoundPictures, options: { channels?: Channels } = {}) {
    const { channels = 3 } = options;
    this.classes = found.classes;
    this.files = found.files;
    this.#channels = channels;
    this.worker = { module: import.meta.url, args: { ...found, channels } };
  }

  /** Number of pictures. */
  get length(): number {
    return this.files.length;
  }

  /**
   * The picture at `index`.
   *
   * @throws {RangeError} If `index` is outside 0 to `length - 1`.
   * @throws {FormatError} If the file is no picture or is damaged.
   */
  async get(index: number): Promise<LabeledPicture> {
    const file = this.files[index];
    if (file === undefined) {
      throw new RangeError(
        `Cannot get picture ${index}: the folder has ${this.length}, valid are 0 to ${
          this.length - 1
        }`,
      );
    }
    const picture = await readImage(file.path, { channels: this.#channels });
    return { ...picture, label: file.label };
  }
}

/** Makes the data set of {@linkcode ImageFolder.worker}'s arguments, in a worker. */
export default function openInWorker(args: FoundPictures & { channels: Channels }): ImageFolder {
  return new ImageFolder(args, args);
}

/**
 * Lists the pictures under a folder that has a folder for each class, which may have folders of its own.
 * Names that begin with a dot and links are left out; the order is the same on every machine.
 *
 * @param dir The folder.
 * @param options Which files, and what pictures to give.
 * @throws {Deno.errors.NotFound} If there is no such folder, or no class with pictures in it.
 * @throws {Deno.errors.InvalidData} If a class has no pictures.
 *
 * @example
 * ```ts
 * import { openImageFolder } from "./image_folder.ts";
 *
 * const birds = await openImageFolder("data/birds/train", { channels: 1 });
 * const { data, label } = await birds.get(0);
 * ```
 */
export async function openImageFolder(
  dir: string | URL,
  options: ImageFolderOptions = {},
): Promise<ImageFolder> {
  checkOptions("openImageFolder", options, "openImageFolder(dir, { channels: 3 })");
  const root = (dir instanceof URL ? decodeURIComponent(dir.pathname) : dir).replace(
    /(.)\/+$/,
    "$1",
  );
  needFiles(`read the pictures of ${root}`, "read them one by one, by nn.data.readImage");
  const { extensions = [".png", ".jpg", ".jpeg"] } = options;
  const classes = (await list(root)).filter(({ isDirectory }) => isDirectory);
  const files: { path: string; label: number }[] = [];
  for (const [label, { name }] of classes.entries()) {
    const before = files.length;
    for (const path of await walk(`${root}/${name}`)) {
      const lower = path.toLowerCase();
      if (extensions.some((end) => lower.endsWith(end.toLowerCase()))) files.push({ path, label });
    }
    if (files.length > before) continue;
    throw new Deno.errors.InvalidData(
      `Cannot use ${root}/${name} as a class: it has no files that end in ${extensions.join(", ")}`,
    );
  }
  if (classes.length === 0) {
    throw new Deno.errors.NotFound(
      `Cannot find classes in ${root}: it needs a folder of pictures for each class`,
    );
  }
  return new ImageFolder({ classes: classes.map(({ name }) => name), files }, options);
}

/** Files and folders in a folder by name, without links and hidden ones. */
async function list(folder: string): Promise<Deno.DirEntry[]> {
  const entries: Deno.DirEntry[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      if (!entry.name.startsWith(".") && !entry.isSymlink) entries.push(entry);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Deno.errors.NotFound(`Cannot read ${folder}: no such folder`, { cause: error });
    }
    throw error;
  }
  return entries.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Appends the paths of all files under a folder, in order. */
async function walk(folder: string, paths: string[] = []): Promise<string[]> {
  for (const { name, isDirectory } of await list(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) await walk(path, paths);
    else paths.push(path);
  }
  return paths;
}
