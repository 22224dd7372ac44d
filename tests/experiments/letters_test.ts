import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { init, nn } from "../../mod.ts";
import { equalizeFilters } from "../../experiments/_letters_model.ts";
import { collate, fitInk } from "../../experiments/_letters_data.ts";
import { runLetters, savedTensors, startLetters, TINY } from "./letters_run.ts";

Deno.test("letters: a run writes its folder, and a stopped one resumes to the same bits", async (t) => {
  const cwd = await Deno.makeTempDir();
  const whole = `${cwd}/whole`;
  try {
    await t.step("runs through", async () => {
      const { code, stdout, stderr } = await runLetters([...TINY, "--out", whole], { cwd });
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, "(0): Conv2d(1, 8, kernel_size=(11, 11), stride=(4, 4)");
      assertMatch(stdout, /Batch 1\/14 - Batch Loss: \d\.\d+, Batch Accuracy: [\d.]+%/);
      const csv = Deno.readTextFileSync(`${whole}/metrics.csv`).trim().split(/\r?\n/);
      assertEquals(
        csv[0],
        "Epoch,LR,Running Train Loss,Running Train Accuracy,Validation Loss,Validation Accuracy," +
          "KE Validation Loss,KE Validation Accuracy,Epoch Time,KE Time,KE + Forward Pass Time",
      );
      assertEquals(csv.length, 4);
      const summary = JSON.parse(Deno.readTextFileSync(`${whole}/summary.json`));
      assertEquals([summary.experiment, summary.preset, summary.epochs], ["letters", "quick", 3]);
      for (const name of ["valTop1", "testTop1", "testTop5"]) {
        assert(summary.metrics[name] >= 0 && summary.metrics[name] <= 1, name);
      }
      const files = [...Deno.readDirSync(whole)].map((e) => e.name);
      for (const name of ["config.json", "log.txt", "best.safetensors", "report.html"]) {
        assert(files.includes(name), `${name} in ${files}`);
      }
      assert(files.some((name) => name.includes("tfevents")), `TensorBoard events in ${files}`);
    });

    await t.step("Ctrl-C, twice, and a kill change nothing", async () => {
      const dir = `${cwd}/stopped`;
      const args = [...TINY, "--out", dir];
      const first = startLetters(args, { cwd });
      await first.saw("Batch 5/14");
      first.kill("SIGINT");
      const interrupted = await first.outcome;
      assertEquals(interrupted.code, 130);
      assertStringIncludes(interrupted.stdout, `deno task train letters --resume ${dir}`);

      const second = startLetters(["--resume", dir], { cwd });
      await second.saw("Epoch 2 Results");
      second.kill("SIGINT");
      assertEquals((await second.outcome).code, 130);

      const third = startLetters(["--resume", dir], { cwd });
      await third.saw("Epoch 3 Start");
      third.kill("SIGKILL");
      assertEquals((await third.outcome).code, 137);

      const last = await runLetters(["--resume", dir], { cwd });
      assertEquals([last.code, last.stderr], [0, ""]);
      assertEquals(savedTensors(dir), savedTensors(whole));
      const best = (d: string) => Deno.readFileSync(`${d}/best.safetensors`);
      assertEquals(best(dir), best(whole));
      const rows = (d: string) =>
        Deno.readTextFileSync(`${d}/metrics.csv`).split("\n")
          .map((line) => line.split(",").slice(0, 8).join(","));
      assertEquals(rows(dir), rows(whole));
    });

    await t.step("an ended run that is resumed only reports again", async () => {
      const before = savedTensors(whole);
      const { code, stdout } = await runLetters(["--resume", whole], { cwd });
      assertEquals(code, 0);
      assert(!stdout.includes("Batch 1/"), stdout);
      assertEquals(savedTensors(whole), before);
    });

    await t.step("only what leaves the run the same may change", async () => {
      const { code, stderr } = await runLetters(["--resume", whole, "--lr", "1"], { cwd });
      assertEquals(code, 1);
      assertMatch(stderr, /^error: Cannot change --lr of a run that goes on: .*\n$/);
    });
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("letters: each wrong input is one line that says what would be right", async (t) => {
  const cwd = await Deno.makeTempDir();
  const { writeIdx } = nn.data;
  /** A folder of idx files with some files replaced. */
  const folder = async (name: string, files: Record<string, Uint8Array>) => {
    const dir = `${cwd}/${name}`;
    await Deno.mkdir(dir);
    const images = await writeIdx({ shape: [26, 28, 28], data: new Uint8Array(26 * 784) });
    const labels = await writeIdx({
      shape: [26],
      data: Uint8Array.from({ length: 26 }, (_, i) => i + 1),
    });
    for (const split of ["train", "test"]) {
      const all: Record<string, Uint8Array> = {
        [`letters-${split}-images-idx3-ubyte`]: images,
        [`letters-${split}-labels-idx1-ubyte`]: labels,
      };
      for (const [file, bytes] of Object.entries({ ...all, ...files })) {
        if (file.includes(split) && bytes.length > 0) await Deno.writeFile(`${dir}/${file}`, bytes);
      }
    }
    return dir;
  };
  const good = await writeIdx({ shape: [26, 28, 28], data: new Uint8Array(26 * 784) }, {
    gzip: true,
  });
  const badMagic = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const badLabel = await writeIdx({ shape: [26], data: new Uint8Array(26).fill(27) });
  const none = new Uint8Array(0);
  const train = "letters-train-images-idx3-ubyte";
  const cases: [string, string[], RegExp][] = [
    ["missing folder", ["--data", `${cwd}/nowhere`], /nowhere/],
    [
      "truncated gz",
      ["--data", await folder("cut", { [train]: none, [`${train}.gz`]: good.slice(0, 40) })],
      /letters-train-images-idx3-ubyte\.gz.*(ends|cut)/,
    ],
    ["wrong magic", ["--data", await folder("magic", { [train]: badMagic })], /magic|expected/],
    [
      "label out of range",
      ["--data", await folder("label", { "letters-train-labels-idx1-ubyte": badLabel })],
      /27.*1\D+26|1\D+26.*27/,
    ],
    ["unknown flag", ["--lrr", "1"], /Unknown flag --lrr: did you mean --lr\?/],
    ["bad value", ["--epochs", "0"], /--epochs.*>= 1/],
    ["too many pairs", ["--alpha", "30"], /--alpha is at most/],
    ["not a run", ["--resume", cwd], /not a run folder/],
    ["no adapter", [], /No WebGPU adapter was found: install a Vulkan driver/],
  ];
  try {
    for (const [name, args, pattern] of cases) {
      await t.step(name, async () => {
        // A backend that this system does not have gives no adapter.
        const env = name === "no adapter" ? { DENO_WEBGPU_BACKEND: "metal" } : undefined;
        const { code, stderr } = await runLetters(args, { cwd, env });
        assertEquals(code, 1);
        assertEquals(stderr.trim().split("\n").length, 1, stderr);
        assertMatch(stderr, /^error: /);
        assertMatch(stderr, pattern);
      });
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("equalizeFilters makes alpha pairs equal and leaves the others", async () => {
  await init();
  using model = nn.models.alexnet({ numClasses: 26, inChannels: 1, width: 0.125, poolSize: 1 });
  const conv = model.features.at(0) as nn.Conv2d;
  const read = async () => [await conv.weight.data(), await conv.bias!.data()];
  const before = await read();
  equalizeFilters(model, 0);
  assertEquals(await read(), before);
  equalizeFilters(model, 3);
  const after = await read();
  for (const [k, size] of [[0, 121], [1, 1]] as const) {
    for (let filter = 0; filter < 8; filter++) {
      const source = filter < 6 ? filter - filter % 2 : filter;
      const part = (all: ArrayLike<number>, f: number) =>
        Array.from(all).slice(f * size, (f + 1) * size);
      assertEquals(part(after[k]!, filter), part(before[k]!, source), `filter ${filter}`);
    }
  }
});

Deno.test("fitInk centres a letter and fills 24 of 28 pixels", () => {
  const images = new Uint8Array(784);
  for (let y = 3; y < 9; y++) for (let x = 2; x < 5; x++) images[y * 28 + x] = 255;
  const set = { images, labels: Uint8Array.of(4), count: 1, height: 28, width: 28 };
  const fitted = fitInk(set).images;
  const inked = (pick: (i: number) => number) => {
    const at = [...fitted.keys()].filter((i) => fitted[i]! > 127).map(pick);
    return [Math.min(...at), Math.max(...at)];
  };
  assertEquals(inked((i) => Math.floor(i / 28)), [2, 25]);
  assertEquals(inked((i) => i % 28), [8, 19]);
  assertEquals(fitInk({ ...set, images: new Uint8Array(784) }).images, new Uint8Array(784));
});

Deno.test("collate gathers images and labels in the order asked", () => {
  const images = Uint8Array.from({ length: 12 }, (_, i) => i);
  const set = { images, labels: Uint8Array.of(7, 8, 9), count: 3, height: 2, width: 2 };
  const batch = collate(set, [2, 0]);
  assertEquals([...batch.images], [8, 9, 10, 11, 0, 1, 2, 3]);
  assertEquals([...batch.labels], [9, 7]);
});
