import { assert, assertEquals, assertMatch } from "@std/assert";
import { killRuns } from "./kill.ts";
import { type Outcome, runLetters, startLetters } from "./letters_run.ts";

const SCRIPT = new URL("./tiny_run.ts", import.meta.url).href;

Deno.test("a run that is killed at any moment resumes and ends with the same bits", async () => {
  const { kills, finished } = await killRuns({ kills: 5, seed: 1 });
  assertEquals(kills, 5);
  assert(finished > 0);
});

Deno.test("a run whose GPU or disk fails says what is saved and how to go on", async (t) => {
  const cwd = await Deno.makeTempDir();
  const permissions = ["--allow-read", "--allow-write"];
  const run = (...args: string[]): Promise<Outcome> => {
    return runLetters(args, { cwd, script: SCRIPT, permissions });
  };
  try {
    await t.step("before the first checkpoint", async () => {
      const { code, stderr } = await run("--out", "a", "--epochs", "3", "--gpu-fails-at", "1");
      assertEquals(code, 1);
      assertEquals(
        stderr,
        "error: The GPU device was lost: a test took it; nothing was saved yet: go on with " +
          "deno task train tiny --resume a\n",
      );
      assert(Deno.readTextFileSync(`${cwd}/a/log.txt`).endsWith(stderr));
      const again = await run("--resume", "a", "--gpu-fails-at", "99");
      assertEquals([again.code, again.stderr], [0, ""]);
      assertMatch(again.stdout, /a has no checkpoint yet: the run starts at the beginning/);
    });

    await t.step("after one", async () => {
      const { stderr } = await run("--out", "b", "--epochs", "3", "--gpu-fails-at", "3");
      assertMatch(stderr, /; all up to batch 0 of epoch 3 is saved: go on with deno task .*b\n$/);
      assertEquals((await run("--resume", "b", "--gpu-fails-at", "99")).code, 0);
    });

    await t.step("and both end with the bits of a run without failure", async () => {
      assertEquals((await run("--out", "c", "--epochs", "3")).code, 0);
      const weights = ["a", "b", "c"].map((name) =>
        Deno.readFileSync(`${cwd}/${name}/last.safetensors`)
      );
      assertEquals(weights[0], weights[2]);
      assertEquals(weights[1], weights[2]);
    });
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("SIGTERM ends a run as Ctrl-C does, and it goes on to the same bits", {
  ignore: Deno.build.os === "windows",
}, async () => {
  const cwd = await Deno.makeTempDir();
  const options = { cwd, script: SCRIPT, permissions: ["--allow-read", "--allow-write"] };
  try {
    assertEquals((await runLetters(["--out", "whole"], options)).code, 0);
    const run = startLetters(["--out", "ended"], options);
    await run.saw("saved\n");
    run.kill("SIGTERM");
    const { code, stdout, stderr } = await run.outcome;
    assertEquals([code, stderr], [143, ""]);
    assertMatch(stdout, /Stopping after this step.*\n[^]*deno task train tiny --resume ended\n$/);
    assertEquals((await runLetters(["--resume", "ended"], options)).code, 0);
    const [ended, whole] = ["ended", "whole"].map((name) =>
      Deno.readFileSync(`${cwd}/${name}/last.safetensors`)
    );
    assertEquals(ended, whole);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
