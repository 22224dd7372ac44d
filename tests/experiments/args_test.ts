import { assert, assertEquals, assertThrows } from "@std/assert";
import { defineFlags, HelpRequest, UsageError } from "../../experiments/_args.ts";

const FLAGS = defineFlags({
  data: { type: "path", help: "Folder with the files", group: "Data" },
  size: { type: "integer", default: 224, min: 63, max: 512, help: "Image size", unit: "pixels" },
  batchSize: { type: "integer", default: 128, min: 1, help: "Samples in a batch" },
  lr: { type: "number", default: 0.01, min: 0, help: "Learning rate", group: "Training" },
  dropout: { type: "number", default: 0.5, above: 0, below: 1, help: "Share dropped" },
  flip: { type: "boolean", default: true, help: "Flip images at random" },
  note: { type: "string", help: "Text kept with the run" },
  mode: { type: "choice", choices: ["fast", "slow"], default: "fast", help: "How to go" },
}, {
  command: "deno task train letters",
  about: "Trains something.",
  presets: { quick: { size: 64, flip: false }, full: {} },
});

function options(...args: string[]) {
  return FLAGS.parse(args).options;
}

function message(...args: string[]): string {
  return assertThrows(() => FLAGS.parse(args), UsageError).message;
}

Deno.test("parse() takes the first preset's values over the table's defaults", () => {
  assertEquals(FLAGS.parse([]), {
    options: {
      data: undefined,
      size: 64,
      batchSize: 128,
      lr: 0.01,
      dropout: 0.5,
      flip: false,
      note: undefined,
      mode: "fast",
    },
    preset: "quick",
    given: new Set(),
  });
});

Deno.test("parse() takes flags over preset and base, and says which are given", () => {
  const parsed = FLAGS.parse(
    ["--preset", "full", "--batch-size=32", "--flip", "--mode", "slow", "--note", "a b"],
    { base: { batchSize: 7, lr: 0.5, note: undefined } },
  );
  assertEquals(parsed.preset, "full");
  const { size, batchSize, lr, flip, mode, note } = parsed.options;
  assertEquals([size, batchSize, lr, flip, mode, note], [224, 32, 0.5, true, "slow", "a b"]);
  assertEquals(parsed.given, new Set(["preset", "batchSize", "flip", "mode", "note"]));
});

Deno.test("parse() types the options", () => {
  const parsed = FLAGS.parse([]);
  const lr: number = parsed.options.lr;
  const mode: "fast" | "slow" = parsed.options.mode;
  const data: string | undefined = parsed.options.data;
  const preset: "quick" | "full" = parsed.preset;
  assertEquals([lr, mode, data, preset], [0.01, "fast", undefined, "quick"]);
});

Deno.test("parse() reads numbers and switches in every form", () => {
  assertEquals(options("--lr", "1e-3").lr, 1e-3);
  assertEquals(options("--lr=.5").lr, 0.5);
  assertEquals(options("--lr", "0").lr, 0);
  assertEquals(options("--size", "1e2").size, 100);
  assertEquals(options("--preset=full", "--no-flip").flip, false);
  assertEquals(options("--flip=true").flip, true);
  assertEquals(options("--flip", "false").flip, false);
  assertEquals(options("--note", "7").note, "7");
  assertEquals(options("--note", "a=b").note, "a=b");
});

Deno.test("parse() names the nearest flag to an unknown one", () => {
  assertEquals(message("--lrr", "1"), "Unknown flag --lrr: did you mean --lr? --help lists all");
  assertEquals(
    message("--batchSize", "1"),
    "Unknown flag --batchSize: did you mean --batch-size? --help lists all",
  );
  assertEquals(
    message("--no-flipp"),
    "Unknown flag --no-flipp: did you mean --no-flip? --help lists all",
  );
  assertEquals(message("--wavelength", "1"), "Unknown flag --wavelength: --help lists all");
  assertEquals(message("-x"), "Unknown flag -x: --help lists all");
  for (const name of ["__proto__", "constructor", "toString", "lr.x"]) {
    assert(message(`--${name}`, "1").startsWith(`Unknown flag --${name}: `));
  }
});

Deno.test("parse() says what a value must be", () => {
  const size = "it must be a whole number >= 63 and <= 512";
  assertEquals(message("--size", "62"), `Flag --size cannot be "62": ${size}`);
  assertEquals(message("--size", "513"), `Flag --size cannot be "513": ${size}`);
  assertEquals(message("--size", "99.5"), `Flag --size cannot be "99.5": ${size}`);
  const dropout = "it must be a number > 0 and < 1";
  for (const value of ["0", "1", "abc", "0x1", "Infinity", "NaN", "1_0", " "]) {
    assertEquals(
      message("--dropout", value),
      `Flag --dropout cannot be "${value}": ${dropout}`,
    );
  }
  assertEquals(message("--lr=-1"), `Flag --lr cannot be "-1": it must be a number >= 0`);
  assertEquals(message("--mode", "x"), `Flag --mode cannot be "x": it must be one of fast, slow`);
  assertEquals(
    message("--preset", "tiny"),
    `Flag --preset cannot be "tiny": it must be one of quick, full`,
  );
});

Deno.test("parse() finds a missing value, a second one and a stray argument", () => {
  assertEquals(message("--lr"), "Flag --lr needs a value: a number >= 0");
  assertEquals(message("--data", "--flip"), "Flag --data needs a value: a path");
  assertEquals(message("--data="), "Flag --data needs a value: a path");
  assertEquals(message("--lr", "1", "--lr=1"), "Flag --lr is given twice: give it once");
  assertEquals(message("--flip", "--no-flip"), "Flag --flip is given twice: give it once");
  assertEquals(message("--flip", "--flip"), "Flag --flip is given twice: give it once");
  assertEquals(
    message("--flip=maybe"),
    `Flag --flip takes no value "maybe": write --flip or --no-flip`,
  );
  assertEquals(
    message("--no-flip=true"),
    `Flag --no-flip takes no value "true": write --flip or --no-flip`,
  );
  const stray = `Unexpected argument "letters": flags begin with --; --help lists all`;
  assertEquals(message("letters"), stray);
  assertEquals(message("--", "letters"), stray);
  assertEquals(
    message("--lr", "-1"),
    "Unexpected value -1: join a negative value to its flag, as --flag=-1",
  );
});

Deno.test("parse() takes a path relative to the folder where the user typed it", () => {
  const root = Deno.build.os === "windows" ? "C:/" : "/";
  // Not the variable itself, which other tests of the process read meanwhile.
  const own = Deno.env.get;
  let typedIn: string | undefined = `${root}home/u`;
  Deno.env.get = (name) => name === "INIT_CWD" ? typedIn : own.call(Deno.env, name);
  try {
    const path = options("--data", "../v/files").data;
    assertEquals(path?.replaceAll("\\", "/"), `${root}home/v/files`);
    assertEquals(options("--data", `${root}files`).data, `${root}files`);
    typedIn = undefined;
    assertEquals(options("--data", "../v/files").data, "../v/files");
  } finally {
    Deno.env.get = own;
  }
});

Deno.test({
  name: "parse() leaves a path as it is when it may not read INIT_CWD",
  permissions: { env: false },
  fn() {
    assertEquals(options("--data", "files").data, "files");
  },
});

Deno.test("parse() asks for help on --help and -h, even beside a wrong flag", () => {
  for (const args of [["--help"], ["-h"], ["--lrr", "1", "--help"]]) {
    assertEquals(assertThrows(() => FLAGS.parse(args), HelpRequest).text, FLAGS.help());
  }
  assertThrows(() => FLAGS.parse(["--", "--help"]), UsageError);
});

Deno.test("help() lists every flag with unit, default and the presets' own defaults", () => {
  assertEquals(
    FLAGS.help(),
    `Trains something.

Usage: deno task train letters [flags]

  --preset quick|full   Set of defaults; other flags override it (default:
                        quick)

Data:
  --data PATH           Folder with the files
  --size INTEGER        Image size (pixels; quick: 64; full: 224)
  --batch-size INTEGER  Samples in a batch (default: 128)

Training:
  --lr NUMBER           Learning rate (default: 0.01)
  --dropout NUMBER      Share dropped (default: 0.5)
  --[no-]flip           Flip images at random (quick: off; full: on)
  --note TEXT           Text kept with the run
  --mode fast|slow      How to go (default: fast)
  -h, --help            Print this text and end
`,
  );
  for (const line of FLAGS.help().split("\n")) assert(line.length <= 80, line);
});

Deno.test("defineFlags() works without presets", () => {
  const flags = defineFlags(
    { n: { type: "integer", default: 1, help: "Count" } },
    { command: "run", about: "Counts." },
  );
  assertEquals(flags.parse(["--n", "3"]).options, { n: 3 });
  assertThrows(() => flags.parse(["--preset", "quick"]), UsageError, "Unknown flag --preset");
});
