import { assert, assertEquals } from "@std/assert";
import { GpuError, NoAdapterError } from "../../engine/errors.ts";
import { describeError } from "../../experiments/_main.ts";
import { UsageError } from "../../experiments/_errors.ts";
import { WeightsError } from "../../nn/io/mod.ts";
import { FormatError } from "../../nn/format_error.ts";
import { RunError } from "../../nn/run/mod.ts";

const ARGS = new URL("../../experiments/_args.ts", import.meta.url).href;

Deno.test("describeError() gives one line for what the user can mend", () => {
  const cases: [Error, string][] = [
    [new UsageError("Unknown flag --x"), "Unknown flag --x"],
    [new RunError("Cannot write a"), "Cannot write a"],
    [new NoAdapterError("No adapter:\n  install a driver\n"), "No adapter: install a driver"],
    [
      new WeightsError("Cannot load a into Net:\n  missing x"),
      "Cannot load a into Net: missing x",
    ],
    [new GpuError("Out of memory", { label: "matmul" }), "Out of memory"],
    [
      new FormatError("bad magic", { file: "a", offset: 0, expected: "b" }),
      "Cannot read a: bad magic at byte 0, expected b",
    ],
    [new Deno.errors.NotFound("No such file: a"), "No such file: a"],
    [new Deno.errors.NotCapable(`Requires read access to "a"`), `Requires read access to "a"`],
    [new Error("No space left on device (os error 28)"), "No space left on device (os error 28)"],
  ];
  for (const [error, line] of cases) {
    assertEquals(describeError(error, { debug: false }), `error: ${line}`);
  }
});

Deno.test("describeError() shows the stack of a bug", () => {
  for (
    const error of [
      new TypeError("x is undefined"),
      new RangeError("Cannot slice"),
      new Error("Internal: no such label"),
      new Deno.errors.BadResource("closed"),
    ]
  ) {
    const text = describeError(error, { debug: false });
    assert(text.startsWith(`${error.name}: ${error.message}\n    at `), text);
    assert(text.includes("main_test.ts"), text);
  }
  assertEquals(describeError("thrown text", { debug: false }), `"thrown text"`);
});

Deno.test("describeError() shows stack and cause of every error when debugging", () => {
  const error = new RunError("Cannot write a", { cause: new Error("disk on fire") });
  const text = describeError(error, { debug: true });
  assert(text.includes("main_test.ts") && text.includes("disk on fire"), text);
});

/** Runs `main` under runMain() in a process of its own. */
async function run(main: string, env: Record<string, string> = {}) {
  const script = `import { defineFlags, runMain, UsageError } from ${JSON.stringify(ARGS)};
    await runMain(async () => { ${main} });`;
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--allow-env=LATHE_DEBUG",
      `data:application/typescript,${encodeURIComponent(script)}`,
    ],
    env: { NO_COLOR: "1", LATHE_DEBUG: "", ...env },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("runMain() ends with 1 and one line on an expected error", async () => {
  const main = `throw new UsageError("Unknown flag --lrr: did you mean --lr?");`;
  assertEquals(await run(main), {
    code: 1,
    stdout: "",
    stderr: "error: Unknown flag --lrr: did you mean --lr?\n",
  });
  const { code, stderr } = await run(main, { LATHE_DEBUG: "1" });
  assertEquals(code, 1);
  assert(/^UsageError: Unknown flag[^\n]*\n +at /.test(stderr), stderr);
});

Deno.test("runMain() reports a missing file without a stack", async () => {
  const { code, stderr } = await run(`await Deno.readTextFile("/nowhere/a.txt");`);
  assertEquals(code, 1);
  assert(/^error: Requires read access to [^\n]*\n$/.test(stderr), stderr);
});

Deno.test("runMain() prints help and ends with 0", async () => {
  const result = await run(`
    const flags = defineFlags({ n: { type: "integer", default: 1, help: "Count" } },
      { command: "run", about: "Counts." });
    flags.parse(["--help"]);
    console.log("not reached");
  `);
  assertEquals(result, {
    code: 0,
    stdout: "Counts.\n\nUsage: run [flags]\n\n" +
      "  --n INTEGER  Count (default: 1)\n  -h, --help   Print this text and end\n",
    stderr: "",
  });
});

Deno.test("runMain() ends with the code that main returns", async () => {
  assertEquals(await run(`console.log("saved"); return 130;`), {
    code: 130,
    stdout: "saved\n",
    stderr: "",
  });
  assertEquals((await run("")).code, 0);
});
