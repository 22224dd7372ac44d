import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import {
  autocast,
  crossEntropy,
  init,
  manualSeed,
  memory,
  nn,
  noGrad,
  oneHot,
  randn,
  readAll,
  scope,
  tensor,
} from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { recordingWindows, spectrogramOf, WINDOWS } from "../../experiments/_birdclef_audio.ts";
import { asRgb, augment, foldsOf, loadBirds } from "../../experiments/_birdclef_data.ts";
import { FLAGS } from "../../experiments/_birdclef_flags.ts";
import { classPrecisions, nearestNeighbour, scoresOf } from "../../experiments/_birdclef_scores.ts";
import { drawTimeline, stretches, timelineOf } from "../../experiments/_birdclef_timeline.ts";
import { accumulate, lossOf, makeModel } from "../../experiments/birdclef.ts";
import {
  SAMPLE_RATE,
  song,
  SONG_WINDOWS,
  SPECIES,
  writeSongs,
} from "../../experiments/synth/songs.ts";
import { type Outcome, runLetters, startLetters } from "./letters_run.ts";

const { features } = await init();
const f16 = features.has("shader-f16");

const script = new URL("../../experiments/birdclef.ts", import.meta.url).href;
const birdsong = new URL("../../experiments/birdsong.ts", import.meta.url).href;
const folds = new URL("../../experiments/birdclef_folds.ts", import.meta.url).href;

/** The smallest run that still has several steps and epochs. */
const TINY = [
  "--clips",
  "32",
  "--folds",
  "4",
  "--size",
  "16",
  "--batch-size",
  "12",
  "--epochs",
  "2",
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

/** A column of a run's `metrics.csv`. */
function column(dir: string, name: string): number[] {
  const [head, ...rows] = Deno.readTextFileSync(`${dir}/metrics.csv`).trim().split("\n")
    .map((line) => line.split(","));
  return rows.map((row) => Number(row[head!.indexOf(name)]));
}

const ended = ({ code, stderr }: Outcome) => assertEquals([code, stderr], [0, ""]);

Deno.test("birdclef: songs are the same for a seed, with the notebook's table", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const options = { clips: 17, folds: 2, seed: 3 };
    assert(await writeSongs(`${dir}/a`, options));
    assert(!await writeSongs(`${dir}/a`, options), "sung twice");
    await writeSongs(`${dir}/b`, options);
    for (const name of ["train.csv", "audio/riser_2.wav", "train_images/clicker_1.png"]) {
      assertEquals(Deno.readFileSync(`${dir}/a/${name}`), Deno.readFileSync(`${dir}/b/${name}`));
    }
    const lines = Deno.readTextFileSync(`${dir}/a/train.csv`).trim().split("\n");
    assertEquals(lines.length, 18);
    assertEquals(lines.slice(0, 2).concat(lines.slice(9, 11)), [
      "image_path,label,label_name,group,fold",
      "train_images/riser_0.png,0,riser,riser_0,0",
      "train_images/riser_1.png,0,riser,riser_1,1",
      "train_images/faller_1.png,1,faller,faller_1,1",
    ]);
    assert(song(0, 3).some((v, i) => v !== song(8, 3)[i]), "each recording is another");
    assertEquals(await foldsOf({ data: `${dir}/a`, folds: 5 }), [0, 1]);
    assertEquals(await foldsOf({ data: undefined, folds: 3 }), [0, 1, 2]);
    // PNG files of the songs are the pictures of their WAV files.
    const { width, height, channels } = await nn.data.readImage(
      `${dir}/a/train_images/riser_0.png`,
    );
    assertEquals([width, height, channels], [64, 64, 1]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("birdclef: windows of a recording have the shape of the real spectrograms", () => {
  for (const sampleRate of [16000, 44100]) {
    const samples = Float32Array.from(
      { length: sampleRate },
      (_, i) => Math.sin(2 * Math.PI * 3000 * i / sampleRate),
    );
    const windows = recordingWindows({ samples, sampleRate });
    assertEquals(windows.map((w) => w.start), [0, 0.3, 0.4]);
    for (const { picture } of windows) assertEquals([picture.width, picture.height], [76, 128]);
    // A tone of 3 kHz: mel 1876 of 218..2840 (150..8000 Hz) is band 81 of 128 from below, row 46.
    const column = Array.from({ length: 128 }, (_, y) => windows[0]!.picture.data[y * 76 + 38]!);
    const row = column.indexOf(Math.max(...column));
    assert(Math.abs(row - 46) <= 1, `row ${row} at ${sampleRate} Hz`);
  }
  // A recording shorter than a window is repeated.
  const [only, ...more] = recordingWindows({
    samples: new Float32Array(800).fill(0.5),
    sampleRate: 16000,
  });
  assertEquals([only!.start, only!.picture.width, more.length], [0, 76, 0]);
});

Deno.test("birdclef: scores are those worked out by hand", () => {
  const rows = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4]];
  const labels = [0, 1, 1, 2];
  const { accuracy, meanRecall, cmap } = scoresOf(rows, labels);
  assertEquals(accuracy, 2 / 4);
  assertAlmostEquals(meanRecall, (1 + 1 / 2 + 0) / 3, 1e-15);
  // Five right rows of score 1 stand first, in every class.
  // Class 0: its row is next: 1. Class 1: rows in order 0.8 (its), 0.3 (its): 1.
  // Class 2: 0.4 is its and the highest: 1.
  assertAlmostEquals(cmap, 1, 1e-15);
  // Two of the rows exchanged: class 0 after another row: 5/6 + (1/6) · 6/7.
  const worse = scoresOf([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], rows[2]!, rows[3]!], labels);
  // Class 1: 0.8 its, 0.3 not, 0.2 its: 6/7 + (1/7) · 7/8.
  assertAlmostEquals(worse.cmap, (5 / 6 + 1 / 7 + 6 / 7 + 1 / 8 + 1) / 3, 1e-12);
  // Without padding: class 0: second of two: 1/2; class 1: 1/2 + (1/2) · 2/3.
  assertEquals(
    classPrecisions([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], rows[2]!, rows[3]!], [0, 1, 1, 1])
      .map((p) => p?.toFixed(6)),
    [(1 / 2).toFixed(6), (1 / 3 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4).toFixed(6), undefined],
  );
});

Deno.test("birdclef: the nearest neighbour is found whatever the brightness", async () => {
  const pictures = [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 9], [200, 100, 100, 100], [0, 1, 20, 20]];
  const set = {
    pictures: pictures.map((p) => Uint8Array.from(p)),
    names: [],
    labels: [0, 1, 2, 0, 2],
    folds: [],
    height: 2,
    width: 2,
    classes: ["a", "b", "c"],
  };
  const scores = await nearestNeighbour(set, { train: [0, 1, 2], val: [3, 4] });
  assertEquals([scores!.accuracy, scores!.meanRecall], [1, 1]);
});

Deno.test("birdclef: the net of the full preset has the notebook's parameters", () => {
  const { options } = FLAGS.parse(["--preset", "full"]);
  const { size, batchSize, epochs, lr, weightDecay, dropOut, dropPath, mixup } = options;
  assertEquals(
    [size, batchSize, epochs, lr, weightDecay, dropOut, dropPath, mixup],
    [128, 64, 30, 3e-4, 3e-4, 0.3, 0.2, 0.2],
  );
  using model = makeModel(options, 264);
  assertEquals(model.parameters().reduce((n, p) => n + p.size, 0), 4_345_732);
});

Deno.test("birdclef: augmentation keeps shapes, range and the sum of labels", async () => {
  manualSeed(1);
  const { options } = FLAGS.parse([]);
  const images = tensor(Float32Array.from({ length: 8 * 400 }, (_, i) => i % 7 / 7), {
    shape: [8, 1, 20, 20],
  });
  const labels = noGrad(() =>
    oneHot(tensor(new Int32Array([0, 1, 2, 3, 0, 1, 2, 3])), 4).to("f32")
  );
  const view = augment(images, labels, { ...options, holes: 1, noise: 1, shift: 1 });
  assertEquals([view.images.shape, view.labels.shape], [[8, 1, 20, 20], [8, 4]]);
  const [x, y] = await readAll([view.images, view.labels]) as [Float32Array, Float32Array];
  assert(x.every((v) => v >= 0 && v <= 1), "0..1");
  for (let i = 0; i < 8; i++) {
    const row = y.slice(4 * i, 4 * i + 4);
    assertAlmostEquals(row.reduce((a, b) => a + b), 1, 1e-6);
    assert(row.filter((v) => v > 0).length <= 2, "two classes at most");
  }
  // Without any of it nothing changes.
  const none = { brightness: 0, contrast: 0, noise: 0, holes: 0, shift: 0, mixup: 0 };
  const [same] = await readAll([augment(images, labels, none).images]);
  const [before] = await readAll([images]);
  assertEquals(same, before);
});

Deno.test("birdclef: every loss is finite, and lower for right logits", async () => {
  const labels = tensor([[1, 0, 0], [0, 0.8, 0.2]]);
  const right = tensor([[3, 0, 0], [0, 3, 0]]), wrong = tensor([[0, 3, 0], [3, 0, 0]]);
  for (
    const name of ["cross-entropy", "focal-cosine", "soft-cross-entropy", "bi-tempered"] as const
  ) {
    const [a, b] = await readAll([right, wrong].map((x) => lossOf(name, x, labels).reshape(1)));
    assert(Number.isFinite(a![0]) && a![0]! < b![0]!, `${name}: ${a![0]} and ${b![0]}`);
  }
});

Deno.test({
  name: "birdclef: mixed precision trains as f32 does, within the noise of rounded weights",
  ignore: !f16,
  async fn() {
    const B = 16, S = 32;
    const pixels = Array.from(
      { length: B },
      (_, i) =>
        spectrogramOf(song(i, 1), { ...SONG_WINDOWS, mels: S, hop: 32, sampleRate: SAMPLE_RATE }),
    );
    assertEquals([pixels[0]!.width, pixels[0]!.height], [S, S]);
    const values = pixels.flatMap(({ data }) => Array.from(data, (v) => v / 255));
    const images = tensor(Float32Array.from(values), { shape: [B, 1, S, S] });
    const labels = tensor(Int32Array.from({ length: B }, (_, i) => i % 8));
    const { options } = FLAGS.parse(["--drop-out", "0"]);
    /** Losses of the first steps; `noise` moves every weight by that share of itself, about. */
    const losses = async ({ amp, noise = 0, seed = 0 }: {
      amp: boolean;
      noise?: number;
      seed?: number;
    }) => {
      manualSeed(11);
      const model = makeModel(options, 8);
      manualSeed(seed);
      if (noise > 0) {
        noGrad(() => {
          for (const p of model.parameters()) p.mul_(randn(p.shape).mul(noise).add(1));
        });
      }
      model.train();
      const optimizer = new nn.optim.AdamW(model.parameters(), { lr: 1e-3 });
      const scaler = new nn.optim.GradScaler({ enabled: amp, initScale: 256 });
      const all = Array.from({ length: 4 }, () =>
        scope(() => {
          optimizer.zeroGrad();
          const loss = autocast(
            { enabled: amp },
            () => crossEntropy(model.forward(asRgb(images)), labels),
          );
          scaler.scale(loss).backward();
          scaler.step(optimizer);
          scaler.update();
          return loss.detach().reshape(1);
        }));
      const scale = await scaler.getScale();
      assertEquals(scale, amp ? 256 : 1, "no step was skipped");
      return (await readAll(all)).map((v) => v[0]! as number);
    };
    const exact = await losses({ amp: false });
    const distance = (a: number[]) => Math.hypot(...a.map((v, i) => v - exact[i]!));
    // f16 rounds by up to 2^-11 of a number. Weights, inputs and outputs of each convolution are
    // rounded, and their gradients: six times where the noise moves only the weights. Twice that, since
    // two draws of noise are few.
    const noisy = [
      distance(await losses({ amp: false, noise: 2 ** -11, seed: 1 })),
      distance(await losses({ amp: false, noise: 2 ** -11, seed: 2 })),
    ];
    const half = distance(await losses({ amp: true }));
    assert(half > 0, "f16 is used");
    assert(half <= 2 * Math.sqrt(6) * Math.max(...noisy), `${half}, with noisy weights ${noisy}`);
    assert(exact[3]! < exact[0]!, `it learns: ${exact}`);
  },
});

Deno.test("birdclef: parts of a batch add up to its gradients", async () => {
  manualSeed(3);
  const model = new nn.Linear(6, 3);
  const x = randn([10, 6]), labels = tensor(Int32Array.from({ length: 10 }, (_, i) => i % 3));
  const gradients = async (batchSize: number) => {
    for (const p of model.parameters()) p.grad = null;
    const loss = accumulate({ count: 10, batchSize }, {
      scaler: new nn.optim.GradScaler({ enabled: false }),
      lossOf: (first, size) =>
        crossEntropy(model.forward(x.narrow(0, first, size)), labels.narrow(0, first, size)),
    });
    const grads = model.parameters().map((p) => p.grad!);
    return (await readAll([loss.reshape(1), ...grads])).flatMap((v) => [...v as Float32Array]);
  };
  const whole = await gradients(10), parts = await gradients(4);
  // Sums of ten terms below 3 in size in another order: 4 eps sqrt(10) of them.
  whole.forEach((v, i) => assertAlmostEquals(parts[i]!, v, 3 * 4 * 2 ** -24 * Math.sqrt(10)));
});

Deno.test("birdclef: gradient checkpointing gives the same gradients with less memory", async () => {
  const gradients = async (gradientCheckpoint: boolean) => {
    manualSeed(5);
    const { options } = FLAGS.parse(["--drop-path", "0.2"]);
    const model = makeModel({ ...options, gradientCheckpoint }, 3);
    model.train();
    manualSeed(6);
    const images = randn([8, 3, 64, 64]), labels = tensor(new Int32Array([0, 1, 2, 0, 1, 2, 0, 1]));
    gpu().pool.resetPeak();
    const before = memory().liveBytes;
    scope(() => crossEntropy(model.forward(images), labels).backward());
    const peak = memory().peakBytes - before;
    const grads = await readAll(model.parameters().map((p) => p.grad!));
    for (const p of model.parameters()) p.grad = null;
    model[Symbol.dispose]();
    return { grads: grads.map((g) => [...g as Float32Array]), peak };
  };
  const parts = await gradients(true), whole = await gradients(false);
  assertEquals(parts.grads, whole.grads);
  assert(parts.peak < 0.6 * whole.peak, `${parts.peak} of ${whole.peak} bytes`);
});

Deno.test("birdclef: a timeline averages the windows that overlap", () => {
  const rows = [[1, 0], [0, 1], [0, 1]];
  const timeline = timelineOf({ starts: [0, 0.3, 0.4], rows }, {
    window: 0.6,
    seconds: 1,
    classes: ["a", "b"],
  });
  assertEquals(timeline.starts.map((s) => s.toFixed(1)), ["0.0", "0.3", "0.4", "0.6", "0.9"]);
  assertEquals(timeline.probabilities.map((row) => row[1]!.toFixed(3)), [
    ...["0.000", "0.500", "0.667", "1.000", "1.000"],
  ]);
  const found = stretches(timeline);
  assertEquals(found.map((s) => s.label), [0, 1]);
  // a: 1 for 0.3 s and 0.5 for 0.1 s.
  assertAlmostEquals(found[0]!.probability, (0.3 + 0.05) / 0.4, 1e-9);
  assertAlmostEquals(found[0]!.to, 0.4, 1e-9);
  const samples = new Float32Array(16000).map((_, i) => Math.sin(i));
  const picture = drawTimeline({ samples, sampleRate: 16000 }, timeline);
  assertEquals(picture.data.length, picture.width * picture.height * 3);
  assertEquals(WINDOWS.mels, 128);
});

Deno.test({
  name:
    "birdclef: a run in mixed precision writes its folder, and a stopped one resumes to its bits",
  ignore: !f16,
  async fn() {
    const cwd = await Deno.makeTempDir();
    const whole = `${cwd}/whole`, dir = `${cwd}/stopped`;
    try {
      // A scale too large at first, that doubles every other step: it is in the checkpoint.
      const args = [...TINY, "--init-scale", "1e7", "--growth-interval", "2", "--out"];
      const first = await runLetters([...args, whole], { cwd, script });
      ended(first);
      assertMatch(first.stdout, /train dataset: 24\nvalid dataset: 8\n/);
      assertMatch(first.stdout, /\nep: 2\n/);
      assertMatch(first.stdout, /\naccuracy: [\d.]+\nmean_recall: [\d.]+\ncmap: [\d.]+\n/);
      assertMatch(first.stdout, /model save at score: [\d.]+/);
      const { experiment, metrics } = JSON.parse(Deno.readTextFileSync(`${whole}/summary.json`));
      assertEquals(experiment, "birdclef");
      for (const name of ["accuracy", "meanRecall", "cmap", "nearestAccuracy", "nearestCmap"]) {
        assert(metrics[name] >= 0 && metrics[name] <= 1, name);
      }
      const files = [...Deno.readDirSync(whole)].map((e) => e.name);
      for (const name of ["best.safetensors", "classes.json", "report.html", "metrics.csv"]) {
        assert(files.includes(name), `${name} in ${files}`);
      }

      const running = startLetters([...args, dir], { cwd, script });
      await running.saw("ep: 1");
      running.kill("SIGINT");
      const { code, stdout } = await running.outcome;
      assertEquals(code, 130);
      assertStringIncludes(stdout, `deno task train birdclef --resume ${dir}`);
      ended(await runLetters(["--resume", dir], { cwd, script }));
      const [a, b] = [trained(dir), trained(whole)];
      assert("scaler.state" in a && "skipped.steps" in a, Object.keys(a).join());
      assertEquals(a, b);

      // The run tells the birds of a recording.
      const [name] = [...Deno.readDirSync(`${cwd}/.cache`)].map((e) => e.name);
      const wav = `${cwd}/.cache/${name}/audio/riser_0.wav`;
      const heard = await runLetters([wav, "--weights", whole, "--out", `${cwd}/t.png`], {
        cwd,
        script: birdsong,
      });
      ended(heard);
      assertMatch(heard.stdout, /0\.0 - 1\.0 s +\S+ +[\d.]+ %/);
      const { width } = await nn.data.readImage(`${cwd}/t.png`);
      assert(width > 500);
      // Its weights serve another number of classes, too.
      const birds = await loadBirds(
        { cache: `${cwd}/.cache`, clips: 32, folds: 4, size: 16, seed: 42 },
        () => {},
      );
      assertEquals(birds.classes, SPECIES);
      using other = makeModel(FLAGS.parse([]).options, 5);
      const { loaded } = await nn.io.loadWeights(other, `${whole}/best.safetensors`, {
        except: "classifier",
      });
      assert(loaded.includes("conv_head.weight") && !loaded.includes("classifier.weight"));
    } finally {
      await Deno.remove(cwd, { recursive: true });
    }
  },
});

Deno.test({
  name: "birdclef: an overflow is skipped and halves the scale, steps without one double it",
  ignore: !f16,
  async fn() {
    const cwd = await Deno.makeTempDir();
    const out = `${cwd}/run`;
    try {
      // Weights as the notebook saves them: timm's names in one more module, and another classifier.
      const weights = `${cwd}/bird_pretrained.safetensors`;
      using other = makeModel(FLAGS.parse([]).options, 5);
      const state = Object.entries(other.stateDict()).map(([name, t]) => [`model.${name}`, t]);
      await nn.io.saveSafetensors(weights, Object.fromEntries(state));
      const args = ["--init-scale", "1e10", "--growth-interval", "3", "--weights", weights];
      const long = TINY.toSpliced(TINY.indexOf("--epochs"), 2, "--epochs", "16");
      const run = await runLetters([...long, ...args, "--out", out], { cwd, script });
      ended(run);
      assertStringIncludes(run.stdout, `load_model: ${weights}`);
      assertStringIncludes(run.stdout, "The classifier is new: 8 classes");
      const skipped = column(out, "skipped_steps"), scale = column(out, "loss_scale");
      // No gradient of f16 is finite at 1e10 times what it is: both steps of the first epoch are skipped.
      assertEquals([skipped[0], scale[0]], [2, 1e10 / 4]);
      assert(skipped.every((n, i) => i === 0 || n >= skipped[i - 1]!), `${skipped}`);
      assert(scale.some((s, i) => i > 0 && s > scale[i - 1]!), `the scale grows: ${scale}`);
      assert(skipped.at(-1)! < 32, `steps are taken: ${skipped}`);
    } finally {
      await Deno.remove(cwd, { recursive: true });
    }
  },
});

Deno.test("birdclef: --drop-last leaves out a batch that is not full", async () => {
  const cwd = await Deno.makeTempDir();
  try {
    const run = async (...args: string[]) => {
      const all = [...TINY, "--no-amp", "--drop-last", ...args];
      const size = all.indexOf("--batch-size");
      return await runLetters(all.toSpliced(size, 2), { cwd, script });
    };
    // 24 spectrograms: one batch of 20, and 4 more.
    const one = await run("--batch-size=20");
    ended(one);
    assertMatch(one.stdout, /Batch 1\/1 /);
    const none = await run("--batch-size=25");
    assertEquals(none.code, 1);
    assertMatch(
      none.stderr,
      /^error: Cannot train on 24 spectrograms in full batches of 25: [^\n]+\n$/,
    );
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("birdclef: each wrong input is one line that says what would be right", async (t) => {
  const cwd = await Deno.makeTempDir();
  const head = "image_path,label,label_name,group,fold\n";
  const table = async (name: string, rows: string) => {
    await Deno.mkdir(`${cwd}/${name}`);
    await Deno.writeTextFile(`${cwd}/${name}/train.csv`, head + rows);
    return `${cwd}/${name}`;
  };
  const wav = `${cwd}/a.wav`;
  await Deno.writeFile(
    wav,
    nn.data.writeWav({ samples: new Float32Array(400), sampleRate: 8000, channels: 1 }),
  );
  const negative = await table("negative", "a.png,-1,owl,a,0\n");
  const cases: [string, string[], RegExp, string?][] = [
    ["both", ["--data", "a", "--audio", "b"], /choose spectrograms or recordings/],
    ["cap", ["--cap", "3", "--floor", "4"], /--cap must not be below --floor/],
    ["no table", ["--data", cwd], /train\.csv/],
    ["no rows", ["--data", await table("none", "")], /it has no rows/],
    ["label", ["--data", negative], /row 1 .* must be whole numbers >= 0/],
    ["picture", ["--data", await table("gone", "a.png,0,owl,a,0\n")], /a\.png/],
    ["fold", [...TINY, "--fold", "7"], /the data has the folds 0, 1, 2, 3/],
    ["no recordings", ["--audio", negative], /has no WAV files/],
    ["folds: fold", ["--fold", "1"], /every fold is trained/, folds],
    ["no recording", ["--weights", "x"], /Expected RECORDING\.wav/, birdsong],
    ["no weights", [wav], /--weights is a run folder/, birdsong],
    ["not a run", [wav, "--weights", cwd], /not a run folder/, birdsong],
  ];
  try {
    for (const [name, args, pattern, other] of cases) {
      await t.step(name, async () => {
        const { code, stderr } = await runLetters(args, { cwd, script: other ?? script });
        assertEquals(code, 1);
        assertMatch(stderr, /^error: [^\n]+\n$/);
        assertMatch(stderr, pattern);
      });
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
