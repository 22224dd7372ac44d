import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UsageError } from "../../experiments/_args.ts";
import { FLAGS as BIRDCLEF } from "../../experiments/_birdclef_flags.ts";
import { partState } from "../../experiments/_parts.ts";
import { nn } from "../../mod.ts";
import { type Outcome, runLetters } from "./letters_run.ts";

const compare = new URL("../../experiments/compare_moco.ts", import.meta.url).href;
const folds = new URL("../../experiments/birdclef_folds.ts", import.meta.url).href;

const ended = ({ code, stderr }: Outcome) => assertEquals([code, stderr], [0, ""]);

/** The smallest comparison, without its sizes. */
const TINY = [
  ...["--images", "64", "--test-images", "20", "--width", "0.25", "--dim", "16"],
  ...["--batch-size", "16", "--epochs", "3", "--probe-steps", "5", "--knn", "5"],
];

/** A run folder as one that has just been made. */
async function makeRun(dir: string, options: Readonly<Record<string, unknown>>): Promise<void> {
  const config = { experiment: "birdclef", preset: "quick", seed: 42, options };
  const terminal = { isTerminal: false, columns: () => 80, write: () => {} };
  const run = await nn.run.RunFolder.create(config, { out: dir, columns: ["Epoch"], terminal });
  run[Symbol.dispose]();
}

Deno.test("partState() tells how far a part is, and refuses one with other flags", async () => {
  const cwd = await Deno.makeTempDir();
  try {
    const dir = `${cwd}/part`;
    const options = { lr: 0.1, amp: true, weights: undefined, gpu: "native", fold: 2 };
    const part = { experiment: "birdclef", dir, options };
    assertEquals(await partState(part), "new");
    await makeRun(dir, options);
    assertEquals(await partState(part), "begun");
    // What a run does not keep does not count.
    const more = { ...options, out: "x", resume: "y", profile: true };
    assertEquals(await partState({ ...part, options: more }), "begun");
    await Deno.writeTextFile(`${dir}/summary.json`, "{}");
    assertEquals(await partState(part), "ended");
    for (
      const [change, text] of [
        [{ lr: 0.2 }, "with --lr 0.1, not with --lr 0.2;"],
        [{ amp: false }, "with --amp, not without --amp;"],
        [{ weights: "a.pth" }, "without --weights, not with --weights a.pth;"],
        [{ gpu: "dawn" }, "with --gpu native, not with --gpu dawn;"],
      ] as const
    ) {
      const other = { ...part, options: { ...options, ...change } };
      await assertRejects(() => partState(other), UsageError, text);
    }
    await assertRejects(
      () => partState({ ...part, experiment: "moco" }),
      UsageError,
      "not of moco",
    );
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("birdclef-folds: finished folds are not trained again; the table has means and deviations", async () => {
  const cwd = await Deno.makeTempDir();
  try {
    const rows = [3, 7].map((fold) => `a.png,0,owl,a,${fold}\n`).join("");
    const head = "image_path,label,label_name,group,fold\n";
    await Deno.writeTextFile(`${cwd}/train.csv`, head + rows);
    // Without the quick preset's values, which are others for data of one's own.
    const args = ["--data", cwd, "--preset", "full", "--out", `${cwd}/all`];
    const { options } = BIRDCLEF.parse(args.slice(0, 4));
    for (const [fold, accuracy] of [[3, 0.5], [7, 0.75]] as const) {
      const dir = `${cwd}/all/fold-${fold}`;
      await makeRun(dir, { ...options, fold, out: undefined, profile: undefined });
      const metrics = { accuracy, meanRecall: 0.25, cmap: 1, nearestAccuracy: 0.125 };
      const summary = { experiment: "birdclef", metrics };
      await Deno.writeTextFile(`${dir}/summary.json`, JSON.stringify(summary));
    }
    const run = await runLetters(args, { cwd, script: folds });
    ended(run);
    const cells = Deno.readTextFileSync(`${cwd}/all/folds.txt`).trim().split("\n").slice(1)
      .map((line) => line.split(/ {2,}/));
    // The deviation of 50 and 75 is 25 / sqrt(2).
    assertEquals(cells, [
      ["fold 3", "50.00 %", "25.00 %", "100.00 %", "12.50 %"],
      ["fold 7", "75.00 %", "25.00 %", "100.00 %", "12.50 %"],
      ["mean", "62.50 %", "25.00 %", "100.00 %", "12.50 %"],
      ["deviation", "17.68 %", "0.00 %", "0.00 %", "0.00 %"],
    ]);
    const other = await runLetters([...args, "--epochs", "99"], { cwd, script: folds });
    assertEquals(other.code, 1);
    assertMatch(other.stderr, /^error: .*fold-3: .* with --epochs 30, not with --epochs 99; .*\n$/);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("compare-moco: a comparison gives a column a dictionary, and goes on where it was", async () => {
  const cwd = await Deno.makeTempDir();
  const run = (sizes: string, ...more: string[]) =>
    runLetters(["--sizes", sizes, "--out", `${cwd}/sizes`, ...TINY, ...more], {
      cwd,
      script: compare,
    });
  const refused = async (pattern: RegExp, sizes: string, ...more: string[]) => {
    const { code, stdout, stderr } = await run(sizes, ...more);
    assertEquals([code, stdout], [1, ""]);
    assertMatch(stderr, pattern);
  };
  try {
    await refused(/^error: .*--queue 33 must be a multiple[^\n]*\n$/, "32,33");
    await refused(/^error: Cannot take --queue: [^\n]*\n$/, "32", "--queue", "64");
    await refused(/^error: Cannot take --resume: [^\n]*\n$/, "32", "--resume", `${cwd}/sizes`);
    const one = await run("32");
    ended(one);
    await refused(/queue-32: .* with --lr 0\.06, not with --lr 0\.5; /, "32,64", "--lr", "0.5");
    const two = await run("32,64");
    ended(two);
    assertMatch(two.stdout, /Linear classifier on +32 keys +64 keys +untrained\n/);
    assertMatch(two.stdout, /ten classes, 100 % of labels( +[\d.]+ %){3}\n/);
    assertEquals(two.stdout.match(/Train Epoch:/g)?.length, 3);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("compare-moco: a comparison that was started in another folder is in one place", async () => {
  const cwd = await Deno.makeTempDir();
  const typedIn = `${cwd}/elsewhere`;
  await Deno.mkdir(typedIn);
  try {
    const permissions = ["--allow-read", "--allow-write", "--allow-sys=systemMemoryInfo"];
    ended(
      await runLetters([...TINY.with(TINY.indexOf("3"), "1"), "--sizes", "32"], {
        cwd,
        script: compare,
        env: { INIT_CWD: typedIn },
        permissions: [...permissions, "--allow-env=INIT_CWD"],
      }),
    );
    const [name, ...others] = Array.from(Deno.readDirSync(`${cwd}/runs`), (e) => e.name);
    assertEquals(others, []);
    const files = Array.from(Deno.readDirSync(`${cwd}/runs/${name}`), (e) => e.name);
    assertEquals(files.sort(), ["comparison.txt", "queue-32"]);
    assertEquals(Array.from(Deno.readDirSync(typedIn)), []);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
