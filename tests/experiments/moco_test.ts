import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { init, nn, tensor } from "../../mod.ts";
import { knnAccuracy, linearProbe } from "../../experiments/_moco_probe.ts";
import { TEXTURE_CLASSES, textureSample, writeTextures } from "../../experiments/synth/textures.ts";
import { type Outcome, runLetters, savedTensors, startLetters } from "./letters_run.ts";

const script = new URL("../../experiments/moco.ts", import.meta.url).href;

/** The smallest run that still has several steps and epochs. */
const TINY = [
  ...["--images", "64", "--test-images", "20", "--width", "0.25", "--dim", "16"],
  ...["--batch-size", "16", "--queue", "64", "--epochs", "3", "--probe-steps", "5", "--knn", "5"],
];

Deno.test("moco: textures are CIFAR-10's files, the same for a seed, each class as often", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const options = { train: 40, test: 20, seed: 3 };
    assert(await writeTextures(`${dir}/a`, options));
    assert(!await writeTextures(`${dir}/a`, options), "drawn twice");
    await writeTextures(`${dir}/b`, options);
    for (const name of ["data_batch_1.bin", "test_batch.bin", "batches.meta.txt"]) {
      assertEquals(Deno.readFileSync(`${dir}/a/${name}`), Deno.readFileSync(`${dir}/b/${name}`));
    }
    const { images, labels, count } = await nn.data.readCifar10(`${dir}/a/data_batch_1.bin`);
    assertEquals(count, 40);
    const counts = TEXTURE_CLASSES.map((_, label) => labels.filter((l) => l === label).length);
    assertEquals(counts, TEXTURE_CLASSES.map(() => 4));
    const { label, image } = textureSample(7, { seed: 3, split: 0 });
    assertEquals([labels[7], images.slice(7 * 3072, 8 * 3072)], [label, image]);
    const other = textureSample(7, { seed: 3, split: 1 });
    assert(image.some((v, i) => v !== other.image[i]), "training and test images differ");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("moco: the encoder has the notebook's layers", async () => {
  await init();
  const summary = nn.models.convNet().summary([3, 32, 32]);
  for (const count of ["864", "64", "18,432", "128", "73,728", "256", "262,656"]) {
    assertMatch(summary, new RegExp(` ${count}\n`));
  }
});

Deno.test("moco: linear classifiers and neighbours find what is there, and nothing in noise", async () => {
  await init();
  const random = new nn.data.HostRandom(1);
  const labels = Uint8Array.from({ length: 200 }, (_, i) => i % 10);
  const features = (signal: number) => {
    const values = Float32Array.from({ length: 200 * 20 }, (_, i) => {
      const [row, column] = [Math.floor(i / 20), i % 20];
      return random.normal() + (column === labels[row] ? signal : 0);
    });
    return tensor(values, { shape: [200, 20] });
  };
  const sets = (signal: number) => ({
    train: features(signal),
    test: features(signal),
    trainLabels: labels,
    testLabels: labels,
  });
  const options = { steps: 60, seed: 1 };
  const clear = sets(12), noise = sets(0);
  for (const classes of [5, 10]) {
    assertEquals(await linearProbe(clear, { classes, share: 0.5 }, options), 1);
  }
  // 20 rows of 20 features leave a little room to overfit.
  assert(await linearProbe(clear, { classes: 2, share: 0.5 }, options) > 0.9);
  assertEquals(await knnAccuracy(clear, 5), 1);
  // Chance is 20 of 200; five deviations of the binomial are 21.
  assert(await linearProbe(noise, { classes: 10, share: 1 }, options) < 41 / 200);
  assert(await knnAccuracy(noise, 5) < 41 / 200);
});

Deno.test("moco: a run writes its folder, and a stopped one resumes to the same bits", async () => {
  const cwd = await Deno.makeTempDir();
  const whole = `${cwd}/whole`, dir = `${cwd}/stopped`;
  const ended = ({ code, stderr }: Outcome) => assertEquals([code, stderr], [0, ""]);
  try {
    const first = await runLetters([...TINY, "--out", whole], { cwd, script });
    ended(first);
    assertMatch(
      first.stdout,
      /Train Epoch: \[3\/3\], lr: \d\.\d+, Loss: \d+\.\d+, kNN Top-1: [\d.]+%/,
    );
    assertMatch(first.stdout, /ten classes, 100 % of labels +[\d.]+ % +[\d.]+ %/);
    const { experiment, metrics } = JSON.parse(Deno.readTextFileSync(`${whole}/summary.json`));
    assertEquals(experiment, "moco");
    for (const name of ["linearTop1", "untrainedLinearTop1", "knnTop1"]) {
      assert(metrics[name] >= 0 && metrics[name] <= 1, name);
    }
    const files = [...Deno.readDirSync(whole)].map((e) => e.name);
    for (const name of ["encoder.safetensors", "report.html", "protocol.json", "metrics.csv"]) {
      assert(files.includes(name), `${name} in ${files}`);
    }

    const running = startLetters([...TINY, "--out", dir], { cwd, script });
    await running.saw("Train Epoch: [1/3]");
    running.kill("SIGINT");
    const { code, stdout } = await running.outcome;
    assertEquals(code, 130);
    assertStringIncludes(stdout, `deno task train moco --resume ${dir}`);
    ended(await runLetters(["--resume", dir], { cwd, script }));
    const [a, b] = [savedTensors(dir), savedTensors(whole)];
    assert("model.queue" in a && "model.queue_ptr" in a, Object.keys(a).join());
    assertEquals(a, b);

    // A longer run goes on at the rate that it has there by its cosine.
    const more = await runLetters(["--resume", dir, "--epochs", "4"], { cwd, script });
    ended(more);
    const rate = 0.06 * (1 + Math.cos(Math.PI * 3 / 4)) / 2;
    assertStringIncludes(more.stdout, `Train Epoch: [4/4], lr: ${rate.toFixed(6)},`);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("moco: each wrong input is one line that says what would be right", async (t) => {
  const cwd = await Deno.makeTempDir();
  const cases: [string, string[], RegExp][] = [
    ["queue", ["--queue", "100"], /--queue 100 must be a multiple/],
    ["splits", ["--bn-splits", "3"], /--bn-splits 3 must divide --batch-size/],
    ["rotation", ["--rotation-min=9", "--rotation-max=8"], /--rotation-min must not be above/],
    ["folder", ["--data", cwd], /has no data_batch_1\.bin/],
    ["batch", ["--images", "64", "--batch-size", "128"], /--batch-size must be at most/],
  ];
  try {
    for (const [name, args, pattern] of cases) {
      await t.step(name, async () => {
        const { code, stderr } = await runLetters(args, { cwd, script });
        assertEquals(code, 1);
        assertMatch(stderr, /^error: [^\n]+\n$/);
        assertMatch(stderr, pattern);
      });
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
