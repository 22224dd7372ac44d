/**
 * @file Finds objects in a picture with the weights of an `ssd` run, and draws them.
 *
 *   deno task detect PICTURE --weights runs/ssd-…
 *   deno task detect PICTURE --weights ssd_pikachu.params
 */

import { init, nn, noGrad, readAll, scope } from "../mod.ts";
import { defineFlags, runMain, UsageError, userPath } from "./_args.ts";
import { planes, prepare, upload } from "./_ssd_data.ts";
import { detect, type Detection, rowsOf } from "./_ssd_detect.ts";
import { detectorOptions, FLAGS as TRAINING, type SsdOptions } from "./_ssd_flags.ts";
import { outputLines } from "./_ssd_log.ts";
import { type DetectorOptions, makeDetector } from "./_ssd_model.ts";
import { loadDetector } from "./_ssd_weights.ts";

const FLAGS = defineFlags({
  weights: {
    type: "path",
    help: "Run folder, or weights: MXNet's .params, .safetensors, .pth …",
  },
  out: { type: "path", help: "PNG to write; PICTURE's name with -detected.png by default" },
  threshold: {
    type: "number",
    default: 0.45,
    above: 0,
    below: 1,
    help: "Lowest score that is drawn",
  },
  nms: {
    type: "number",
    default: 0.5,
    above: 0,
    max: 1,
    help: "Overlap from which the worse of two boxes goes, of whatever class",
  },
  classes: {
    type: "string",
    help: "Names of the classes with commas; the run's, or pikachu, by default",
  },
}, {
  command: "deno task detect PICTURE",
  about:
    "Finds objects in a JPEG or PNG picture and writes it with boxes, names and scores as a PNG. " +
    "Weights without a run folder are those of the full preset.",
});

/** Reads a picture and weights, writes the picture with its boxes. */
export async function main(args: readonly string[]): Promise<void> {
  const { picture: path, flags } = splitArgs(args);
  const { options } = FLAGS.parse(flags);
  if (path === undefined) {
    throw new UsageError("Cannot detect without a picture: name a JPEG or PNG file");
  }
  if (options.weights === undefined) {
    throw new UsageError("Cannot detect without weights: --weights takes a run folder or a file");
  }
  await init();
  const { model, detector, size } = await openModel(options.weights, options.classes);
  const picture = await nn.data.readImage(userPath(path), { channels: 3 });
  const { found, lines } = await findObjects(model, picture, {
    size,
    nms: options.nms,
    classes: detector.classes.length + 1,
  });
  for (const line of lines) console.log(line);
  const shown = found.filter((row) => row[1]! >= options.threshold);
  const labels = shown.map((row) => describe(row, detector));
  for (const [i, row] of shown.entries()) {
    const { width, height } = picture;
    const corners = [0, 1, 2, 3].map((k) => Math.round(row[2 + k]! * (k % 2 ? height : width)));
    console.log(`${labels[i]} at [${corners.join(", ")}]`);
  }
  const out = options.out ?? userPath(path).replace(/\.[^./\\]*$/, "") + "-detected.png";
  await Deno.writeFile(out, await drawn(picture, { rows: shown, labels }));
  console.log(`${shown.length} of score ${options.threshold} or more: ${out}`);
}

/** The one argument that is neither a flag nor a flag's value, and the others. */
function splitArgs(args: readonly string[]): { picture: string | undefined; flags: string[] } {
  const flags: string[] = [];
  let picture: string | undefined;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (picture === undefined && !arg.startsWith("-")) {
      picture = arg;
      continue;
    }
    flags.push(arg);
    const takesValue = /^--[a-z-]+$/.test(arg) && arg !== "--help";
    if (takesValue && args[i + 1] !== undefined) flags.push(args[++i]!);
  }
  return { picture, flags };
}

/** The detector of a run folder or a file of weights, with the size of the pictures it sees. */
async function openModel(weights: string, classes: string | undefined): Promise<{
  model: nn.models.ToySsd;
  detector: DetectorOptions;
  size: number;
}> {
  const isFolder = await Deno.stat(weights).then((s) => s.isDirectory);
  let options: SsdOptions = TRAINING.parse(["--preset", "full"]).options;
  if (isFolder) {
    const config = nn.run.readConfig(weights);
    if (config.experiment !== "ssd") {
      throw new UsageError(
        `Cannot detect with ${weights}: it is a run of ${config.experiment}, not of ssd`,
      );
    }
    options = { ...options, ...config.options as Partial<SsdOptions> };
  }
  const detector = detectorOptions({ ...options, classes: classes ?? options.classes });
  const model = makeDetector(detector);
  await loadDetector(model, weights);
  model.eval();
  return { model, detector, size: options.size };
}

/** Detections in one picture, best first, and what the notebook prints about them. */
async function findObjects(
  model: nn.models.ToySsd,
  picture: nn.data.Picture,
  options: { size: number; nms: number; classes: number },
): Promise<{ found: Detection[]; lines: string[] }> {
  const { width, height } = picture;
  const set = {
    scenes: [{ image: planes(picture), objects: [] }],
    width,
    height,
    mostObjects: 1,
  };
  const tensors = scope(() =>
    noGrad(() => {
      const batch = { images: set.scenes[0]!.image, indices: [0] };
      const x = prepare(upload(set, batch), options);
      const { anchors, classes, boxes } = model.forward(x);
      const choice = { nmsThreshold: options.nms, forceSuppress: true, clip: false };
      return { x, anchors, classes, boxes, output: detect(model, x, choice).contiguous() };
    })
  );
  const { x, ...rest } = tensors;
  const [anchors, classes, boxes, output] = await readAll(Object.values(rest)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const lines = outputLines(x, { anchors, classes, boxes, output }, options);
  for (const t of Object.values(tensors)) t.dispose();
  return { found: rowsOf(output, 1)[0]!, lines };
}

/** A detection in words. */
function describe(row: Detection, { classes }: DetectorOptions): string {
  return `${classes[row[0]!]} ${row[1]!.toFixed(3)}`;
}

/** The picture with boxes and labels, as PNG. */
async function drawn(
  picture: nn.data.Picture,
  { rows, labels }: { rows: readonly Detection[]; labels: readonly string[] },
): Promise<Uint8Array> {
  const boxes = rows.map((row) => [0, 1, 2, 3].map((k) => row[2 + k]!));
  const thickness = Math.max(2, Math.round(picture.height / 200));
  const { width, height, data } = nn.vision.drawBoxes(picture, boxes, { labels, thickness });
  return await nn.data.writePng({ width, height, channels: 3, data: Uint8Array.from(data) });
}

if (import.meta.main) await runMain(() => main(Deno.args));
