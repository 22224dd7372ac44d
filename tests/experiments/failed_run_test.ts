import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { shellWord } from "../../experiments/_args.ts";
import { init } from "../../mod.ts";
import { runLetters, startLetters, TINY } from "./letters_run.ts";

const scriptOf = (name: string) => new URL(`../../experiments/${name}.ts`, import.meta.url).href;

/** The smallest run of each experiment. */
const SMALL: Readonly<Record<string, readonly string[]>> = {
  letters: TINY.slice(0, TINY.indexOf("--epochs")),
  captioning: [
    ...["--scenes", "16", "--size", "32", "--embed-dim", "8", "--hidden-dim", "8"],
    ...["--batch-size", "4"],
  ],
  moco: [
    ...["--images", "64", "--test-images", "20", "--width", "0.25", "--dim", "16"],
    ...["--batch-size", "16", "--queue", "64"],
  ],
  ssd: ["--scenes", "12", "--val-scenes", "4", "--size", "64", "--batch-size", "4"],
  birdclef: ["--clips", "32", "--folds", "4", "--size", "16", "--batch-size", "6", "--no-amp"],
};

Deno.test("training ends with a clear error at the first epoch whose loss is not finite", async (t) => {
  const { features } = await init();
  const mixed = SMALL.birdclef!.filter((flag) => flag !== "--no-amp");
  const runs = [
    ...Object.entries(SMALL).map(([name, args]) => ({ title: name, name, args })),
    ...features.has("shader-f16")
      ? [{ title: "birdclef in mixed precision", name: "birdclef", args: mixed }]
      : [],
  ];
  for (const { title, name, args } of runs) {
    await t.step(title, async () => {
      const cwd = await Deno.makeTempDir();
      try {
        const steep = [...args, "--epochs", "2", "--lr", "1e30", "--out", `${cwd}/run`];
        const { code, stdout, stderr } = await runLetters(steep, { cwd, script: scriptOf(name) });
        assertEquals(code, 1);
        assertMatch(
          stderr,
          /^error: Cannot train on: the (training|validation) loss of epoch 1 is (NaN|-?Infinity); start a new run, with a smaller --lr\n$/,
        );
        assert(!stdout.includes("Training complete!"), stdout);
        assert(Deno.readTextFileSync(`${cwd}/run/log.txt`).endsWith(stderr));
        const files = Array.from(Deno.readDirSync(`${cwd}/run`), (e) => e.name);
        assert(!files.includes("best.safetensors"), `${files}`);
      } finally {
        await Deno.remove(cwd, { recursive: true });
      }
    });
  }
});

Deno.test("a command that fails before training leaves its run folder as it was", async (t) => {
  const cwd = await Deno.makeTempDir();
  try {
    for (const [name, args] of Object.entries(SMALL)) {
      await t.step(name, async () => {
        const out = `${cwd}/${name}`;
        const typo = [...args, "--data", `${cwd}/typo`, "--out", out];
        const { code, stderr } = await runLetters(typo, { cwd, script: scriptOf(name) });
        assertEquals(code, 1);
        assertMatch(stderr, /^error: .*typo/);
        const names = Array.from(Deno.readDirSync(cwd), (e) => e.name);
        assert(!names.includes(name), `${names}`);
      });
    }

    await t.step("and in it what was there before", async () => {
      const dir = `${cwd}/mine`;
      await Deno.mkdir(dir);
      await Deno.writeTextFile(`${dir}/notes.txt`, "mine");
      const run = await runLetters(["--data", `${cwd}/typo`, "--out", dir], { cwd });
      assertEquals(run.code, 1);
      assertEquals(Array.from(Deno.readDirSync(dir), (e) => e.name), ["notes.txt"]);
    });

    await t.step("wrong weights, too", async () => {
      const args = [...SMALL.ssd!, "--weights", `${cwd}/none.safetensors`];
      const { code, stderr } = await runLetters(args, { cwd, script: scriptOf("ssd") });
      assertEquals(code, 1);
      assertStringIncludes(stderr, "none.safetensors");
      assertEquals(Array.from(Deno.readDirSync(`${cwd}/runs`)), []);
    });
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("a run that was started in another folder says how to go on from there", async () => {
  const cwd = await Deno.makeTempDir();
  const typedIn = `${cwd}/a folder`;
  await Deno.mkdir(typedIn);
  const permissions = [
    ...["--allow-read", "--allow-write", "--allow-sys=systemMemoryInfo"],
    "--allow-env=INIT_CWD",
  ];
  const options = { cwd, env: { INIT_CWD: typedIn }, permissions };
  const stopped = async (args: readonly string[]) => {
    const run = startLetters([...SMALL.letters!, "--epochs", "1", ...args], options);
    await run.saw("Batch 1/");
    run.kill("SIGINT");
    const { code, stdout } = await run.outcome;
    assertEquals(code, 130);
    return stdout;
  };
  try {
    const root = Deno.realPathSync(cwd);
    // The default folder lies in the folder of the process.
    assertMatch(
      (await stopped([])).replaceAll(root, "ROOT").replaceAll(cwd, "ROOT"),
      /--resume ROOT\/runs\/letters-[\d-]+\n/,
    );
    const said = await stopped(["--out", "it's"]);
    const command = /--resume (.*)\n/.exec(said)![1]!;
    assertEquals(command.replace(root, cwd), `'${cwd}/a folder/it'\\''s'`);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("shellWord() quotes what a shell would take apart", () => {
  assertEquals(
    ["runs/a-1", "a b", "$HOME", "it's", "", "übung"].map(shellWord),
    ["runs/a-1", "'a b'", "'$HOME'", "'it'\\''s'", "''", "'übung'"],
  );
});
