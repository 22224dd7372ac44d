import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { assertNotEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { init, nn, noGrad, readAll, tensor, zeros } from "../../mod.ts";
import { FormatError } from "../../nn/format_error.ts";
import { randomCrop } from "../../experiments/_ssd_crop.ts";
import {
  collate,
  prepare,
  readScenes,
  type SceneSet,
  upload,
} from "../../experiments/_ssd_data.ts";
import { evaluate } from "../../experiments/_ssd_detect.ts";
import { detectorOptions, FLAGS } from "../../experiments/_ssd_flags.ts";
import { detectionLoss, initXavier, makeDetector } from "../../experiments/_ssd_model.ts";
import { softmaxFocalLoss } from "../../experiments/_ssd_model.ts";
import { loadDetector } from "../../experiments/_ssd_weights.ts";
import { creatureSize, drawCreature } from "../../experiments/synth/_ssd_creature.ts";
import { drawScene, writeScenes } from "../../experiments/synth/ssd.ts";
import { encodeJpeg } from "../helpers/jpeg_file.ts";
import { le } from "../helpers/zip_file.ts";
import { type Outcome, runLetters, startLetters } from "./letters_run.ts";

const script = new URL("../../experiments/ssd.ts", import.meta.url).href;
const detectScript = new URL("../../experiments/detect.ts", import.meta.url).href;

/** The smallest run that still has several steps and epochs. */
const TINY = [
  ...["--scenes", "10", "--val-scenes", "3", "--size", "64", "--width", "0.25"],
  ...["--batch-size", "4", "--epochs", "2", "--log-interval", "2", "--saturation", "0.2"],
];

/** Tensors of a checkpoint, as text. */
function trained(dir: string): Record<string, string> {
  const { tensors } = nn.io.decodeSafetensors(Deno.readFileSync(`${dir}/checkpoint.safetensors`));
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data }]) => [
      name,
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength).toHex(),
    ]),
  );
}

Deno.test("ssd: scenes are im2rec's files, the same for a seed, with boxes that fit", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const options = { train: 6, val: 3, size: 64, seed: 3 };
    assert(await writeScenes(`${dir}/a`, options));
    assert(!await writeScenes(`${dir}/a`, options), "drawn twice");
    await writeScenes(`${dir}/b`, options);
    for (const split of ["train", "val"]) {
      for (const end of ["rec", "idx"]) {
        const name = `creatures_${split}.${end}`;
        assertEquals(Deno.readFileSync(`${dir}/a/${name}`), Deno.readFileSync(`${dir}/b/${name}`));
      }
    }
    const path = `${dir}/a/creatures_train.rec`;
    const { records, keys } = await nn.data.readRecordIo(path);
    assertEquals(keys, [0, 1, 2, 3, 4, 5]);
    const { label, id } = nn.data.unpackImageRecord(records[5]!);
    assertEquals([...label.subarray(0, 5)], [4, 5, 64, 64, 0]);
    assertEquals([(label.length - 4) % 5, id], [0, 5n]);

    const set = await readScenes(path, { size: 64, classes: 1 });
    const { image, objects } = drawScene(5, { seed: 3, split: "train", size: 64 });
    const read = set.scenes[5]!;
    assertEquals(read.objects, objects.map((row) => row.map(Math.fround)));
    assertEquals([read.image[7], read.image[64 * 64 + 7]], [image[3 * 7], image[3 * 7 + 1]]);
    const other = drawScene(5, { seed: 3, split: "val", size: 64 });
    assertNotEquals(other.image, image);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("readScenes() makes pictures of several sizes and formats one size", async () => {
  await init();
  const dir = await Deno.makeTempDir();
  const { packImageRecord, writePng, writeRecordIo } = nn.data;
  const colour = (n: number) =>
    Uint8Array.from({ length: 3 * n }, (_, i) => [200, 100, 50][i % 3]!);
  try {
    const png = await writePng({ data: colour(35), width: 5, height: 7, channels: 3 });
    const jpeg = await encodeJpeg(colour(256), { size: [16, 16], quality: 95 });
    // A longer header and object than usual, a box that rounding put outside, a list that ends early.
    const label = [3, 6, 9, 1, -1e-4, 0, 0.5, 1, 7, -1, 0, 0, 1, 1, 7];
    const records = [png, jpeg].map((image) => packImageRecord({ label, image }));
    await Deno.writeFile(`${dir}/a.rec`, writeRecordIo(records).rec);
    const set = await readScenes(`${dir}/a.rec`, { size: 4, classes: 2 });
    assertEquals([set.width, set.height, set.scenes.length, set.mostObjects], [4, 4, 2, 1]);
    for (const { image, objects } of set.scenes) {
      assertEquals(objects, [[1, 0, 0, 0.5, 1]]);
      assertEquals(image.length, 48);
      // The JPEG's colours are rounded twice, as YCbCr and as coefficients of a constant block.
      image.forEach((v, i) =>
        assert(Math.abs(v - [200, 100, 50][Math.floor(i / 16)]!) <= 3, `${v}`)
      );
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("drawScene() draws what generator 1 draws", async () => {
  // A change of the drawings needs a new GENERATOR in ssd.ts, then a new hash here.
  const scenes = [0, 1, 2].map((i) => drawScene(i, { seed: 1, split: "train", size: 48 }).image);
  const bytes = new Uint8Array(await new Blob(scenes).arrayBuffer());
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  assertEquals(hash.subarray(0, 8).toHex(), "a99e1802ba17d105");
});

Deno.test("drawCreature() gives the box of what it drew", () => {
  for (let n = 0; n < 10; n++) {
    const random = new nn.data.HostRandom(n);
    const canvas = { size: 60, data: new Uint8Array(3 * 60 * 60) };
    for (let i = 2; i < canvas.data.length; i += 3) canvas.data[i] = 255;
    const place = { ...creatureSize(20 + 3 * n, random), x: 3.3 + n, y: 5.6 };
    const box = drawCreature(canvas, place, random);
    const changed = [...Array(60 * 60).keys()].filter((i) => canvas.data[3 * i] !== 0);
    const [xs, ys] = [changed.map((i) => i % 60), changed.map((i) => Math.floor(i / 60))];
    const drawn = [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1];
    // Pixels at the rim that are covered by less than half are drawn, but not in the box.
    for (const [k, edge] of drawn.entries()) {
      const inside = k < 2 ? box[k]! - edge : edge - box[k]!;
      assert(inside >= 0 && inside <= 1, `box ${box} of pixels ${drawn}, creature ${n}`);
    }
  }
});

Deno.test("toySsd() places anchors of the sizes given", async () => {
  await init();
  const { options } = FLAGS.parse(["--sizes", "0.1,0.15,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"]);
  using model = makeDetector({ ...detectorOptions(options), width: 0.25 });
  const { anchors } = noGrad(() => model.forward(zeros([1, 3, 64, 64])));
  const rows = await anchors.array() as number[][][];
  const widths = rows[0]!.map(([x1, , x2]) => x2! - x1!);
  const first = (cells: number) => widths.slice(cells, cells + 2);
  for (const [cells, sizes] of [[0, [0.1, 0.15]], [256, [0.2, 0.3]], [340, [0.8, 0.9]]] as const) {
    first(cells).forEach((w, i) => assertAlmostEquals(w, sizes[i]!, 1e-6));
  }
  assertThrows(() => nn.models.toySsd({ sizes: [[1, 1]] }), RangeError, "a pair for each of 5");
});

Deno.test("randomCrop() keeps what it touches, and its boxes name the same pixels", () => {
  const picture = {
    width: 200,
    height: 100,
    objects: [[0, 0.1, 0.2, 0.3, 0.5], [2, 0.4, 0.5, 0.65, 0.9]],
  };
  const random = new nn.data.HostRandom(5);
  const options = { minObjectCovered: 0.95, minArea: 0.05, attempts: 200, random };
  let parts = 0, both = 0;
  for (let n = 0; n < 200; n++) {
    const { box, objects } = randomCrop(picture, options);
    const [top, left, h, w] = box;
    assert(top >= 0 && left >= 0 && top + h <= 100 && left + w <= 200, `${box}`);
    if (h === 100 && w === 200) continue;
    parts++;
    both += Number(objects.length === 2);
    assert(h * w >= 0.05 * 100 * 200, `${box} is too small`);
    // Whole pixels of width and height move the ratio off its range by at most half of one of them.
    assert(w / h > 0.75 - 0.5 / h && w / h < 1.33 + 0.5 / h, `${box} has another ratio`);
    for (const [id, x1, y1, x2, y2] of objects as number[][]) {
      const was = picture.objects.find((row) => row[0] === id)!;
      const sides = [left + x1! * w, top + y1! * h, left + x2! * w, top + y2! * h];
      const full = [0, 1, 2, 3].map((k) => was[k + 1]! * (k % 2 ? 100 : 200));
      const area = (b: number[]) => (b[2]! - b[0]!) * (b[3]! - b[1]!);
      assert(area(sides) > 0.95 * area(full) - 1e-9, `${sides} of ${full}`);
      for (let k = 0; k < 4; k++) {
        const shift = sides[k]! - full[k]!;
        assert(k < 2 ? shift > -1e-9 : shift < 1e-9, `${sides} leaves ${full}`);
      }
    }
  }
  assert(parts > 150 && both > 5 && both < parts, `${parts} parts, ${both} with both`);
});

Deno.test("randomCrop() leaves the picture whole where no part fits", () => {
  const random = new nn.data.HostRandom(5);
  const options = { minObjectCovered: 0.95, minArea: 0.05, attempts: 20, random };
  // Two objects from edge to edge: every part cuts one of them. No object: nothing to keep.
  const objects = [[0, 0, 0, 1, 0.5], [0, 0, 0.5, 1, 1]];
  for (const list of [objects, []]) {
    const { box, objects: kept } = randomCrop({ width: 50, height: 60, objects: list }, options);
    assertEquals([box, kept], [[0, 0, 60, 50], list]);
  }
});

/** One picture of 8 x 4 whose red channel counts its pixels, with an object. */
const COUNTED: SceneSet = {
  scenes: [{
    image: Uint8Array.from({ length: 96 }, (_, i) => (i < 32 ? 4 * i : 100)),
    objects: [[1, 0.25, 0, 0.5, 1]],
  }],
  width: 8,
  height: 4,
  mostObjects: 2,
};

Deno.test("pictures, crops, mirrors and boxes go together to the GPU", async () => {
  await init();
  const random = new nn.data.HostRandom(1);
  const options = { crop: 0, flip: 1, minObjectCovered: 0, minArea: 1, attempts: 1 };
  const batch = collate(COUNTED, [0]);
  const plain = upload(COUNTED, batch);
  assertEquals([...await plain.labels.data()], [1, 0.25, 0, 0.5, 1, -1, -1, -1, -1, -1]);
  const mirrored = upload(COUNTED, batch, { options, random });
  assertEquals([...await mirrored.labels.data()].slice(0, 5), [1, 0.5, 0, 0.75, 1]);
  // The part of rows 0 to 3 and columns 2 to 5 is 4 x 4 already: its pixels, minus the mean.
  const part = { ...mirrored, crops: tensor([[0, 2, 4, 4]]) };
  const row = (await prepare(part, { size: 4, mirror: true }).data()).slice(0, 4);
  [5, 4, 3, 2].forEach((pixel, i) => assertAlmostEquals(row[i]!, 4 * pixel - 123.68, 1e-4));
  const same = await prepare({ ...plain, crops: tensor([[0, 2, 4, 4]]) }, { size: 4 }).data();
  [2, 3, 4, 5].forEach((pixel, i) => assertAlmostEquals(same[i]!, 4 * pixel - 123.68, 1e-4));
  assertAlmostEquals(same[16]!, 100 - 116.28, 1e-4);
});

Deno.test("softmaxFocalLoss() is the formula, with its slope", async () => {
  await init();
  const rows = [[2, -1, 0.5], [0, 0, 0], [-3, 4, 1], [30, -30, 0]], ids = [1, 2, -1, 0];
  const alpha = 0.3, gamma = 1.5;
  const loss = (values: number[][], ignore: boolean) => {
    const each = values.map((row, i) => {
      if (ids[i]! < 0 && ignore) return 0;
      const sum = row.reduce((total, v) => total + Math.exp(v), 0);
      const p = Math.exp(row[Math.max(0, ids[i]!)]!) / sum;
      return -alpha * (1 - p) ** gamma * Math.log(p);
    });
    return each.reduce((total, v) => total + v, 0) / rows.length;
  };
  for (const ignore of [false, true]) {
    const x = tensor(rows, { requiresGrad: true });
    const y = softmaxFocalLoss(x, tensor(ids, { dtype: "i32" }), { alpha, gamma, ignore });
    // Some ten roundings of exp, log and pow.
    assertAlmostEquals(await y.item(), loss(rows, ignore), 1e-6);
    y.backward();
    const grad = await x.grad!.data();
    for (const [i, row] of rows.entries()) {
      for (const [k] of row.entries()) {
        const moved = (by: number) =>
          rows.map((r, n) => r.map((v, m) => n === i && m === k ? v + by : v));
        const slope = (loss(moved(1e-4), ignore) - loss(moved(-1e-4), ignore)) / 2e-4;
        assertAlmostEquals(grad[3 * i + k]!, slope, 1e-5);
      }
    }
  }
  const sharp = tensor([[90, -90]], { requiresGrad: true });
  softmaxFocalLoss(sharp, tensor([0], { dtype: "i32" }), { alpha, gamma: 0.5 }).backward();
  assert([...await sharp.grad!.data()].every(Number.isFinite), "a certain row has a finite slope");
});

Deno.test("the losses of the notebook's start, and mining leaves anchors out", async () => {
  await init();
  const { options } = FLAGS.parse(["--preset", "full", "--size", "64", "--width", "0.25"]);
  using model = makeDetector(detectorOptions(options));
  initXavier(model, options.magnitude);
  // Xavier's bound for 9 x 4 inputs and 9 x 4 outputs: the root of 2 / 36.
  const weight = await model.namedParameters().find(([name]) => name === "body.0.3.weight")![1]
    .data();
  const largest = Math.max(...[...weight].map(Math.abs));
  assert(largest <= Math.sqrt(2 / 36) && largest > 0.9 * Math.sqrt(2 / 36), `${largest}`);
  const output = noGrad(() =>
    model.forward(tensor(new Float32Array(3 * 64 * 64), { shape: [1, 3, 64, 64] }))
  );
  const labels = tensor([[[0, 0.2, 0.2, 0.5, 0.6]]]);
  const all = detectionLoss(output, labels, options);
  const A = output.anchors.shape[1]!;
  // Logits are 0 for a black picture without biases, so every anchor has p = 1/2.
  assertAlmostEquals(await all.classLoss.item(), 0.25 * 0.25 * Math.log(2), 1e-6);
  const mined = detectionLoss(output, labels, { ...options, negativeMining: 3 });
  const share = await mined.classLoss.item() / await all.classLoss.item() * A;
  // Positive anchors and three times as many others.
  assertAlmostEquals(share / 4, Math.round(share / 4), 1e-3);
  assert(share >= 4 && share < A / 2, `${share} of ${A} anchors`);
  // Of equal logits the first is the largest: the background's, which is right for three of four.
  assertAlmostEquals(await mined.accuracy.item(), 0.75, 1e-6);
  assertAlmostEquals(await all.accuracy.item(), 1 - share / 4 / A, 1e-6);
  const empty = tensor([[[-1, -1, -1, -1, -1]]]);
  const none = detectionLoss(output, empty, options);
  assertEquals([await none.accuracy.item(), await none.boxLoss.item()], [1, 0]);
});

Deno.test("evaluate() scores a detector that knows nothing near 0, in any batch size", async () => {
  await init();
  const dir = await Deno.makeTempDir();
  try {
    await writeScenes(dir, { train: 1, val: 3, size: 64, seed: 1 });
    const set = await readScenes(`${dir}/creatures_val.rec`, { size: 64, classes: 1 });
    const { options } = FLAGS.parse(["--size", "64", "--width", "0.25"]);
    using model = makeDetector(detectorOptions(options));
    const one = await evaluate(model, set, { size: 64, batchSize: 1 });
    const three = await evaluate(model, set, { size: 64, batchSize: 3 });
    assertEquals(one.detections.map((rows) => rows.length), three.detections.map((r) => r.length));
    assert(one.map50 < 0.5 && model.training, `${one.map50}`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

/** A Gluon file (layout V2) of arrays. */
async function gluonFile(
  arrays: readonly (readonly [name: string, data: Float32Array, shape: readonly number[]])[],
): Promise<Uint8Array> {
  const bytes = (...fields: [number, number][]) => Uint8Array.from(le(...fields));
  const parts: BlobPart[] = [bytes([8, 0x112], [8, 0], [8, arrays.length])];
  for (const [, data, shape] of arrays) {
    parts.push(bytes([4, 0xf993fac9], [4, 0], [4, shape.length]));
    parts.push(bytes(...shape.map((size): [number, number] => [8, size])));
    parts.push(bytes([4, 1], [4, 0], [4, 0]), data.slice());
  }
  parts.push(bytes([8, arrays.length]));
  for (const [name] of arrays) parts.push(bytes([8, name.length]), name);
  return await new Blob(parts).bytes();
}

/** Names that Gluon gives the layers of the notebook's model, in the order in which they are made. */
function gluonNames(name: string): { byPlace: string; byNumber: string } {
  const [layer, kind] = name.split(/\.(?=\w+$)/) as [string, string];
  const [part, block, place] = layer.split(".") as [string, string, string?];
  const norm = place === "1" || place === "4";
  const gluon = norm ? { weight: "gamma", bias: "beta" }[kind] ?? kind : kind;
  const base: Record<string, number> = { downsamples: 0, class_preds: 6, box_preds: 7, body: 16 };
  const at = base[part]! + 2 * Number(block) + Number(place === "3" || place === "4");
  const number = norm && part === "body" ? at - 10 : at;
  return {
    byPlace: `${layer}.${gluon}`,
    byNumber: `${norm ? "batchnorm" : "conv"}${number + 3}_${gluon}`,
  };
}

Deno.test("MXNet's weights by either of their names, and detect prints the notebook's rows", async (t) => {
  await init();
  const dir = await Deno.makeTempDir();
  const { options } = FLAGS.parse(["--preset", "full"]);
  using model = makeDetector(detectorOptions(options));
  initXavier(model, options.magnitude);
  const state = Object.entries(model.stateDict());
  const values = await readAll(state.map(([, t]) => t)) as Float32Array[];
  const write = async (way: "byPlace" | "byNumber") => {
    const arrays = state.map(([name, { shape }], i) =>
      [gluonNames(name)[way], values[i]!, shape] as const
    ).filter(([name]) => !name.endsWith("num_batches_tracked")).reverse();
    await Deno.writeFile(`${dir}/${way}.params`, await gluonFile(arrays));
    return `${dir}/${way}.params`;
  };
  try {
    for (const way of ["byPlace", "byNumber"] as const) {
      await t.step(way, async () => {
        const path = await write(way);
        const other = makeDetector(detectorOptions(options));
        await loadDetector(other, path);
        const loaded = other.stateDict();
        for (const [i, [name]] of state.entries()) {
          assertEquals(await loaded[name]!.data(), values[i], name);
        }
        const small = makeDetector({ ...detectorOptions(options), width: 0.5 });
        await assertRejects(
          () => loadDetector(small, path),
          FormatError,
          "[16, 3, 3, 3] for body.0.0.weight",
        );
      });
    }
    await t.step("detect", async () => {
      const { image } = drawScene(0, { seed: 9, split: "val", size: 80 });
      const png = await nn.data.writePng({ data: image, width: 80, height: 80, channels: 3 });
      await Deno.writeFile(`${dir}/scene.png`, png);
      const { code, stdout, stderr } = await runLetters(
        ["--weights", `${dir}/byNumber.params`, "scene.png"],
        { cwd: dir, script: detectScript, permissions: ["--allow-read", `--allow-write=${dir}`] },
      );
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, "x (1, 3, 256, 256)\n");
      for (
        const row of [
          "[-0.084375 -0.084375 0.115625 0.115625]",
          "[-0.120375 -0.120375 0.151625 0.151625]",
          "[0.019500 0.019500 0.980500 0.980500]",
          "[0.188873 -0.122254 0.811127 1.122254]",
        ]
      ) assertStringIncludes(stdout, `\n${row}\n`);
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("ssd: a run writes its folder, a stopped one resumes to the same bits, detect uses it", async (t) => {
  const cwd = await Deno.makeTempDir();
  const whole = `${cwd}/whole`, dir = `${cwd}/stopped`, picture = `${cwd}/scene.png`;
  const ended = ({ code, stderr }: Outcome) => assertEquals([code, stderr], [0, ""]);
  const { image } = drawScene(0, { seed: 9, split: "val", size: 80 });
  const png = await nn.data.writePng({ data: image, width: 80, height: 80, channels: 3 });
  await Deno.writeFile(picture, png);
  try {
    await t.step("runs through and prints what the notebook prints", async () => {
      const outcome = await runLetters([...TINY, "--out", whole], { cwd, script });
      ended(outcome);
      const { stdout } = outcome;
      for (
        const line of [
          "Class prediction (2, 55, 20, 20)",
          "Box prediction (2, 40, 20, 20)",
          "Before (2, 3, 20, 20) after (2, 10, 10, 10)",
          "Class prediction for feature map 2 (2, 33, 10, 10)",
          "Flatten class prediction 1 (2, 22000)",
          "Flatten class prediction 2 (2, 3300)",
          "Concat class predictions (2, 25300)",
          "Body network [(64, 32, 32), (64, 32, 32)]",
          // 4 · (64 + 16 + 4 + 1 + 1) anchors
          "Outputs: anchors (1, 344, 4) class prediction (1, 344, 2) box prediction (1, 1376)",
          "DataBatch: data shapes: [(4, 3, 64, 64)] label shapes: [(4, 3, 5)]",
        ]
      ) assertStringIncludes(stdout, `${line}\n`);
      assertMatch(stdout, /row 21, column 21: \[0\.2624?5?9* [\d.]+ 0\.762[\d.]+ 0\.762[\d.]+\]/);
      assertMatch(
        stdout,
        /\[Epoch 1 Batch 2\] speed: [\d.]+ samples\/s, training: accuracy=0\.\d+, mae=0\.\d+/,
      );
      assertMatch(stdout, /\[Epoch 2\] time cost: [\d.]+/);
      const { experiment, epochs, metrics } = JSON.parse(
        Deno.readTextFileSync(`${whole}/summary.json`),
      );
      assertEquals([experiment, epochs], ["ssd", 2]);
      for (const name of ["map50", "map"]) {
        assert(metrics[name] >= 0 && metrics[name] <= 1, name);
      }
      const files = [...Deno.readDirSync(whole)].map((e) => e.name);
      for (const name of ["best.safetensors", "report.html", "metrics.csv", "config.json"]) {
        assert(files.includes(name), `${name} in ${files}`);
      }
    });

    await t.step("Ctrl-C changes nothing", async () => {
      const running = startLetters([...TINY, "--out", dir], { cwd, script });
      await running.saw("[Epoch 1 Batch 2]");
      running.kill("SIGINT");
      const { code, stdout } = await running.outcome;
      assertEquals(code, 130);
      assertStringIncludes(stdout, `deno task train ssd --resume ${dir}`);
      ended(await runLetters(["--resume", dir], { cwd, script }));
      const [a, b] = [trained(dir), trained(whole)];
      assert("model.box_preds.4.bias" in a, Object.keys(a).join());
      assertEquals(a, b);
    });

    const permissions = ["--allow-read", `--allow-write=${cwd}`];
    const detect = (...args: string[]) =>
      runLetters([picture, ...args], { cwd, script: detectScript, permissions });
    const drawn = `${cwd}/scene-detected.png`;
    await t.step("detect draws on a picture what a run finds", async () => {
      const outcome = await detect("--weights", whole, "--threshold", "0.001");
      ended(outcome);
      assertStringIncludes(outcome.stdout, "x (1, 3, 64, 64)\n");
      assertMatch(outcome.stdout, /creature 0\.\d+ at \[-?\d+, -?\d+, \d+, \d+\]/);
      const result = await nn.data.readPng(drawn);
      assertEquals([result.width, result.height, result.channels], [80, 80, 3]);
      assertNotEquals(result.data, image);
    });
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("ssd: each wrong input is one line that says what would be right", async (t) => {
  const cwd = await Deno.makeTempDir();
  const { packImageRecord, writePng, writeRecordIo } = nn.data;
  const png = await writePng({ data: new Uint8Array(12), width: 2, height: 2, channels: 3 });
  const folder = async (name: string, label: number[], image = png) => {
    await Deno.mkdir(`${cwd}/${name}`);
    for (const split of ["train", "val"]) {
      const { rec } = writeRecordIo([packImageRecord({ label, image })]);
      await Deno.writeFile(`${cwd}/${name}/${split}.rec`, rec);
    }
    return `${cwd}/${name}`;
  };
  const good = [2, 5, 0, 0.1, 0.1, 0.9, 0.9];
  await Deno.writeTextFile(`${cwd}/a.params`, "not weights at all");
  const small = ["--scenes", "2", "--val-scenes", "1", "--size", "64"];
  const cases: [string, string[], RegExp][] = [
    ["no folder", ["--data", `${cwd}/nowhere`], /nowhere/],
    ["no records", ["--data", cwd], /one file whose name ends with train\.rec, and holds 0/],
    ["class label", ["--data", await folder("single", [3])], /label of 1 numbers/],
    ["cut label", ["--data", await folder("cut", good.slice(0, 6))], /label of 6 numbers/],
    ["class", ["--data", await folder("class", [2, 5, 1, 0, 0, 1, 1])], /class 1.*--classes/],
    ["box", ["--data", await folder("box", [2, 5, 0, 0.9, 0, 0.1, 1])], /xmin < xmax/],
    ["pixels", ["--data", await folder("pixels", [2, 5, 0, 3, 4, 50, 60])], /from 0 to 1/],
    ["image", ["--data", await folder("image", good, png.slice(0, 30))], /record 0 of/],
    ["sizes", ["--sizes", "1,2"], /--sizes takes 10 numbers/],
    ["classes", ["--classes", "a,,b"], /give names with commas/],
    ["weights", [...small, "--weights", `${cwd}/a.params`], /a\.params/],
  ];
  const detect: [string, string[], RegExp][] = [
    ["no picture", ["--weights", cwd], /name a JPEG or PNG file/],
    ["no weights", ["a.png"], /--weights takes a run folder or a file/],
    ["no run", ["a.png", "--weights", cwd], /not a run folder/],
  ];
  try {
    for (const [name, args, pattern] of [...cases, ...detect]) {
      await t.step(name, async () => {
        const which = cases.some((c) => c[0] === name) ? script : detectScript;
        const { code, stderr } = await runLetters(args, { cwd, script: which });
        assertEquals(code, 1);
        assertMatch(stderr, /^error: [^\n]+\n$/);
        assertMatch(stderr, pattern);
      });
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
