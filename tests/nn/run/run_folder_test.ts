import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ioError, writeFileAtomicSync } from "../../../nn/run/_files.ts";
import { FormatError } from "../../../nn/format_error.ts";
import {
  type CreateRunOptions,
  MetricsCsv,
  readConfig,
  type RunConfig,
  RunError,
  RunFolder,
  type Terminal,
} from "../../../nn/run/mod.ts";

const LATHE = new URL("../../../deno.json", import.meta.url);
const COLUMNS = ["Epoch", "LR", "KE + Forward Pass Time", "Note"];
const CONFIG: RunConfig = {
  experiment: "letters",
  preset: "quick",
  seed: 42,
  adapter: "llvmpipe",
  options: { lr: 0.01, data: undefined, flip: true },
};

class Screen implements Terminal {
  output = "";
  constructor(readonly isTerminal = false) {}
  columns(): number {
    return 80;
  }
  write(text: string): void {
    this.output += text;
  }
}

function options(root: string, more: Partial<CreateRunOptions> = {}): CreateRunOptions {
  return {
    root,
    columns: COLUMNS,
    terminal: new Screen(),
    now: new Date("2026-05-04T03:02:01.987Z"),
    ...more,
  };
}

async function inFolder(test: (dir: string) => Promise<void> | void): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function names(dir: string): string[] {
  return [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
}

Deno.test("RunFolder.create() names the folder by time and never takes an old one", () =>
  inFolder(async (dir) => {
    for (const name of ["letters-20260504-030201", "letters-20260504-030201-2"]) {
      using run = await RunFolder.create(CONFIG, options(`${dir}/runs`));
      assertEquals(run.dir, `${dir}/runs/${name}`);
    }
    assertEquals(names(`${dir}/runs/letters-20260504-030201`), [
      "config.json",
      "log.txt",
      "metrics.csv",
    ]);
  }));

Deno.test("RunFolder.create() keeps options, seed, adapter and versions in config.json", () =>
  inFolder(async (dir) => {
    using run = await RunFolder.create(CONFIG, options(dir));
    const config = JSON.parse(Deno.readTextFileSync(run.path("config.json")));
    const lathe = JSON.parse(Deno.readTextFileSync(LATHE)).version;
    assertEquals(config, {
      ...CONFIG,
      options: { lr: 0.01, flip: true },
      created: "2026-05-04T03:02:01.987Z",
      versions: { lathe, ...Deno.version },
    });
    assertEquals(readConfig(run.dir), config);
  }));

Deno.test("RunFolder.create() takes `out` as it is, unless it holds a run", () =>
  inFolder(async (dir) => {
    const out = `${dir}/deep/run`;
    Deno.mkdirSync(out, { recursive: true });
    Deno.writeTextFileSync(`${out}/notes.txt`, "kept");
    {
      using run = await RunFolder.create(CONFIG, options(dir, { out }));
      assertEquals(run.dir, out);
    }
    assertEquals(Deno.readTextFileSync(`${out}/notes.txt`), "kept");
    const error = await assertRejects(
      () => RunFolder.create(CONFIG, options(dir, { out })),
      RunError,
    );
    assertEquals(
      error.message,
      `Cannot start a run in ${out}: it holds one already; resume it or choose another folder`,
    );
  }));

Deno.test("RunFolder.create() says why a folder cannot be made", () =>
  inFolder(async (dir) => {
    Deno.writeTextFileSync(`${dir}/file`, "");
    for (const where of [{ root: `${dir}/file/runs` }, { out: `${dir}/file/run` }]) {
      const error = await assertRejects(
        () => RunFolder.create(CONFIG, options(dir, where)),
        RunError,
      );
      assert(
        /^Cannot create the run folder .*: a part of the path is a file, not a folder$/.test(
          error.message,
        ),
        error.message,
      );
    }
  }));

Deno.test("RunFolder.log() writes to terminal and log.txt, also after reopening", () =>
  inFolder(async (dir) => {
    const terminal = new Screen();
    let path: string;
    {
      using run = await RunFolder.create(CONFIG, options(dir, { terminal }));
      path = run.dir;
      run.log("Epoch 1\nstarted");
      run.log();
      run.record("only in the file");
      const bar = run.progress(5);
      bar.update({ step: 1, loss: 1 });
      run.log("Saved");
      bar.finish();
    }
    {
      using run = await RunFolder.open(path, { columns: COLUMNS, terminal });
      run.log("Resumed");
    }
    const batch = "Batch 1/5 - Batch Loss: 1.000000";
    assertEquals(
      Deno.readTextFileSync(`${path}/log.txt`),
      `Epoch 1\nstarted\n\nonly in the file\n${batch}\nSaved\nResumed\n`,
    );
    assertEquals(terminal.output, `Epoch 1\nstarted\n\n${batch}\nSaved\nResumed\n`);
  }));

Deno.test("RunFolder.log() does not tear the bar on a terminal", () =>
  inFolder(async (dir) => {
    const terminal = new Screen(true);
    using run = await RunFolder.create(CONFIG, options(dir, { terminal }));
    run.progress(5, { label: "Epoch 1" }).update({ step: 1, loss: 1 });
    run.log("Saved");
    const [before, after] = terminal.output.split("Saved\n");
    assert(before!.endsWith("\r\x1b[K") && after!.includes("Epoch 1"), terminal.output);
    assertEquals(
      Deno.readTextFileSync(run.path("log.txt")),
      "Batch 1/5 - Batch Loss: 1.000000\nSaved\n",
    );
  }));

Deno.test("RunFolder.writeSummary() writes what a finished run reached", () =>
  inFolder(async (dir) => {
    using run = await RunFolder.create(CONFIG, options(dir));
    run.writeSummary({ seconds: 71.5, epochs: 12, metrics: { valTop1: 0.97, testTop5: 1 } });
    assertEquals(JSON.parse(Deno.readTextFileSync(run.path("summary.json"))), {
      experiment: "letters",
      preset: "quick",
      seed: 42,
      adapter: "llvmpipe",
      seconds: 71.5,
      epochs: 12,
      metrics: { valTop1: 0.97, testTop5: 1 },
    });
    assertEquals(names(run.dir), ["config.json", "log.txt", "metrics.csv", "summary.json"]);
  }));

Deno.test("RunFolder.open() says what a folder lacks", () =>
  inFolder(async (dir) => {
    const open = () => RunFolder.open(dir, { columns: COLUMNS, terminal: new Screen() });
    const message = async () => (await assertRejects(open, RunError)).message;
    assertEquals(
      await message(),
      `Cannot resume ${dir}: it has no config.json, so it is not a run folder`,
    );
    const expected = "expected a run's configuration: experiment, seed, options, created, versions";
    for (
      const [text, found] of [
        ["{", "invalid JSON at byte 1"],
        [`{"experiment": "letters", "seed": "1"}`, "another value at byte 0"],
        [`{"é": 1, "a": NaN}`, "invalid JSON at byte 15"],
        [`{"a": 1, "a": 2}`, `repeated key "a" at byte 9`],
      ] as const
    ) {
      Deno.writeTextFileSync(`${dir}/config.json`, text);
      const error = await assertRejects(open, FormatError);
      assertEquals(error.message, `Cannot read ${dir}/config.json: ${found}, ${expected}`);
    }
    const config = { ...CONFIG, created: "2026-05-04T03:02:01.987Z", versions: { lathe: "0.1.0" } };
    Deno.writeTextFileSync(`${dir}/config.json`, JSON.stringify(config));
    assertEquals(
      await message(),
      `Cannot read ${dir}/metrics.csv: no such file or folder`,
    );
  }));

Deno.test("MetricsCsv quotes fields, leaves absent ones empty and keeps full precision", () =>
  inFolder(async (dir) => {
    const path = `${dir}/m.csv`;
    const metrics = await MetricsCsv.create(path, COLUMNS);
    metrics.append({ Epoch: 1, LR: 0.1 + 0.2, Note: 'a "b", c\nd' });
    metrics.append({ Note: undefined, Epoch: 2, "KE + Forward Pass Time": NaN });
    assertEquals(
      Deno.readTextFileSync(path),
      "Epoch,LR,KE + Forward Pass Time,Note\n" +
        '1,0.30000000000000004,,"a ""b"", c\nd"\n' + "2,,NaN,\n",
    );
    assertEquals(metrics.rows(), [
      { Epoch: "1", LR: "0.30000000000000004", "KE + Forward Pass Time": "", Note: 'a "b", c\nd' },
      { Epoch: "2", LR: "", "KE + Forward Pass Time": "NaN", Note: "" },
    ]);
    assertThrows(
      () => metrics.append({ epoch: 3 }),
      TypeError,
      `Cannot append "epoch": the columns are [Epoch, LR`,
    );
  }));

Deno.test("MetricsCsv.rewind() drops the rows of later epochs", () =>
  inFolder(async (dir) => {
    const path = `${dir}/m.csv`;
    const metrics = await MetricsCsv.create(path, ["Epoch", "Loss"]);
    for (const epoch of [1, 2, 9, 10]) metrics.append({ Epoch: epoch, Loss: epoch / 2 });
    metrics.rewind(9);
    assertEquals(Deno.readTextFileSync(path), "Epoch,Loss\n1,0.5\n2,1\n9,4.5\n");
    metrics.rewind(0);
    metrics.append({ Epoch: 1, Loss: 7 });
    assertEquals(Deno.readTextFileSync(path), "Epoch,Loss\n1,7\n");
    assertEquals(names(dir), ["m.csv"]);
  }));

Deno.test("MetricsCsv.open() removes a torn last line and refuses other columns", () =>
  inFolder(async (dir) => {
    const path = `${dir}/m.csv`;
    Deno.writeTextFileSync(path, "Epoch,Loss\n1,0.5\n2,0.");
    const metrics = await MetricsCsv.open(path, ["Epoch", "Loss"]);
    metrics.append({ Epoch: 2, Loss: 0.25 });
    assertEquals(Deno.readTextFileSync(path), "Epoch,Loss\n1,0.5\n2,0.25\n");
    const error = await assertRejects(() => MetricsCsv.open(path, ["Epoch", "LR"]), RunError);
    assertEquals(
      error.message,
      `Cannot continue ${path}: its columns are [Epoch, Loss], this program writes [Epoch, LR]`,
    );
    Deno.writeTextFileSync(path, 'Epoch,Loss\n1,"0.5\n');
    await assertRejects(
      () => MetricsCsv.open(path, ["Epoch", "Loss"]),
      FormatError,
      `Cannot read ${path}: bad quotes`,
    );
  }));

Deno.test("MetricsCsv.create() throws without columns or with one name twice", async () => {
  await assertRejects(() => MetricsCsv.create("unused", []), TypeError, "different names");
  await assertRejects(() => MetricsCsv.create("unused", ["a", "a"]), TypeError, "different names");
});

Deno.test("writeFileAtomicSync() leaves the old content when it fails", () =>
  inFolder((dir) => {
    writeFileAtomicSync(`${dir}/a`, "old");
    const failing = () => {
      throw new Deno.errors.PermissionDenied("no");
    };
    duringRename(failing, () => {
      assertThrows(
        () => writeFileAtomicSync(`${dir}/a`, "new"),
        RunError,
        `Cannot write ${dir}/a: `,
      );
    });
    assertEquals(Deno.readTextFileSync(`${dir}/a`), "old");
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name), ["a"]);
  }));

Deno.test("writeFileAtomicSync() of two processes leaves one whole file", () =>
  inFolder((dir) => {
    // The other process comes between the writing and the renaming.
    duringRename(
      () => writeFileAtomicSync(`${dir}/a`, "second and longer"),
      () => writeFileAtomicSync(`${dir}/a`, "first"),
    );
    assertEquals(Deno.readTextFileSync(`${dir}/a`), "first");
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name), ["a"]);
  }));

/** Does something before the first rename of `body`. */
function duringRename(before: () => void, body: () => void): void {
  const { renameSync } = Deno;
  Deno.renameSync = (from, to) => {
    Deno.renameSync = renameSync;
    before();
    renameSync(from, to);
  };
  try {
    body();
  } finally {
    Deno.renameSync = renameSync;
  }
}

Deno.test("ioError() names the reason in words", () => {
  for (
    const [error, reason] of [
      [new Deno.errors.PermissionDenied("x"), "permission denied"],
      [new Error("No space left on device (os error 28)"), "no space left on the disk"],
      [new Error("Read-only file system (os error 30)"), "the file system is read-only"],
      [new Deno.errors.NotCapable("x"), "Deno does not allow it"],
      ["odd", "odd"],
    ] as [unknown, string][]
  ) {
    const { message, cause } = ioError("write a", error);
    assert(message.startsWith(`Cannot write a: ${reason}`), message);
    assertEquals(cause, error);
  }
});

Deno.test("RunFolder says when the disk is full", () =>
  inFolder(async (dir) => {
    using run = await RunFolder.create(CONFIG, { ...options(dir), out: `${dir}/run` });
    const { prototype } = Deno.FsFile, { writeSync } = prototype;
    prototype.writeSync = () => {
      throw new Error("No space left on device (os error 28)");
    };
    try {
      const full = (path: string) => `Cannot write ${path}: no space left on the disk`;
      assertThrows(() => run.log("x"), RunError, full(run.path("log.txt")));
      const row = { Epoch: 1 };
      assertThrows(() => run.metrics.append(row), RunError, full(run.path("metrics.csv")));
      const result = { seconds: 1, epochs: 1, metrics: {} };
      assertThrows(() => run.writeSummary(result), RunError, full(run.path("summary.json")));
      assertEquals(names(run.dir), ["config.json", "log.txt", "metrics.csv"]);
    } finally {
      prototype.writeSync = writeSync;
    }
  }));
