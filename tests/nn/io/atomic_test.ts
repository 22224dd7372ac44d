import { assertEquals, assertRejects } from "@std/assert";
import { writeFileAtomic } from "../../../nn/io/atomic.ts";

async function withDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function list(dir: string): string[] {
  return [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
}

Deno.test("writeFileAtomic() writes a new file and replaces an old one", async () => {
  await withDir(async (dir) => {
    for (const bytes of [Uint8Array.of(1, 2, 3), Uint8Array.of(4), new Uint8Array(0)]) {
      await writeFileAtomic(`${dir}/a`, bytes);
      assertEquals(Deno.readFileSync(`${dir}/a`), bytes);
    }
    await writeFileAtomic(new URL(`file://${dir}/b%20c`), Uint8Array.of(5));
    assertEquals(list(dir), ["a", "b c"]);
  });
});

Deno.test("writeFileAtomic() writes parts one after the other", async () => {
  await withDir(async (dir) => {
    const large = new Uint8Array(3_000_000).fill(7);
    await writeFileAtomic(`${dir}/a`, [Uint8Array.of(1), new Uint8Array(0), large]);
    const read = Deno.readFileSync(`${dir}/a`);
    assertEquals([read.length, read[0], read[1], read.at(-1)], [3_000_001, 1, 7, 7]);
  });
});

Deno.test("writeFileAtomic() leaves the old file and no other when the content fails", async () => {
  await withDir(async (dir) => {
    await writeFileAtomic(`${dir}/a`, Uint8Array.of(1));
    function* parts(): Generator<Uint8Array> {
      yield new Uint8Array(1000);
      assertEquals(list(dir).length, 2); // the temporary file is beside the old one
      assertEquals(Deno.readFileSync(`${dir}/a`), Uint8Array.of(1));
      throw new Error("no more data");
    }
    await assertRejects(
      () => writeFileAtomic(`${dir}/a`, parts()),
      Error,
      `Cannot write ${dir}/a: no more data`,
    );
    assertEquals(Deno.readFileSync(`${dir}/a`), Uint8Array.of(1));
    assertEquals(list(dir), ["a"]);
  });
});

Deno.test("writeFileAtomic() leaves no file when the rename fails", async () => {
  await withDir(async (dir) => {
    await Deno.mkdir(`${dir}/a`);
    await Deno.writeTextFile(`${dir}/a/b`, "");
    await assertRejects(
      () => writeFileAtomic(`${dir}/a`, Uint8Array.of(1)),
      Error,
      `Cannot write ${dir}/a: `,
    );
    assertEquals(list(dir), ["a"]);
  });
});

Deno.test("writeFileAtomic() throws for a missing folder", async () => {
  await withDir(async (dir) => {
    await assertRejects(
      () => writeFileAtomic(`${dir}/none/a`, Uint8Array.of(1)),
      Error,
      `Cannot write ${dir}/none/a: `,
    );
  });
});

Deno.test("writeFileAtomic() removes what a killed writer of the same file left", async () => {
  await withDir(async (dir) => {
    const kept = [".a.notes.tmp", ".a.0123456.tmp", ".b.01234567.tmp", "a.01234567.tmp"];
    for (const name of [...kept, ".a.01234567.tmp"]) Deno.writeTextFileSync(`${dir}/${name}`, "");
    await writeFileAtomic(`${dir}/a`, Uint8Array.of(1));
    assertEquals(list(dir), [...kept, "a"].sort());
  });
});

Deno.test("writeFileAtomic() leaves one whole file after many writes at once", async () => {
  await withDir(async (dir) => {
    const contents = Array.from({ length: 20 }, (_, i) => new Uint8Array(10_000 + i).fill(i));
    await Promise.all(contents.map((bytes) => writeFileAtomic(`${dir}/a`, bytes)));
    const read = Deno.readFileSync(`${dir}/a`);
    assertEquals(read, contents[read[0]!]);
    assertEquals(list(dir), ["a"]);
  });
});

Deno.test("writeFileAtomic() does not remove what a slower write of the same file is at", async () => {
  await withDir(async (dir) => {
    const slow = Array.from({ length: 300 }, () => new Uint8Array(10).fill(1));
    const fast = Uint8Array.of(2);
    await Promise.all([writeFileAtomic(`${dir}/a`, slow), writeFileAtomic(`${dir}//a`, fast)]);
    const read = Deno.readFileSync(`${dir}/a`);
    assertEquals(read, read.length === 1 ? fast : new Uint8Array(3000).fill(1));
    assertEquals(list(dir), ["a"]);
  });
});

Deno.test("writeFileAtomic() leaves the old file whole when the writer is killed", async () => {
  await withDir(async (dir) => {
    const old = new Uint8Array(100).fill(1);
    await writeFileAtomic(`${dir}/a`, old);
    const module = new URL("../../../nn/io/atomic.ts", import.meta.url).href;
    const code = `
      import { writeFileAtomic } from ${JSON.stringify(module)};
      function* parts() {
        yield new Uint8Array(1000);
        console.log("half");
        while (true);
      }
      await writeFileAtomic(${JSON.stringify(`${dir}/a`)}, parts());`;
    await Deno.writeTextFile(`${dir}/writer.ts`, code);
    const writer = new Deno.Command("deno", {
      args: [
        "run",
        "--no-config",
        `--allow-read=${dir}`,
        `--allow-write=${dir}`,
        `${dir}/writer.ts`,
      ],
      stdout: "piped",
    }).spawn();
    for await (const _ of writer.stdout) {
      writer.kill("SIGKILL");
      break;
    }
    assertEquals((await writer.status).signal, "SIGKILL");
    assertEquals(Deno.readFileSync(`${dir}/a`), old);
    assertEquals(list(dir).length, 3); // with the temporary file of the killed writer
    await writeFileAtomic(`${dir}/a`, Uint8Array.of(2));
    assertEquals(list(dir), ["a", "writer.ts"]);
  });
});

/** Lets the `write` or `sync` of files fail as a full or broken disk does, after some bytes. */
async function onBadDisk(
  fails: { write?: number; sync?: boolean },
  body: () => Promise<void>,
): Promise<void> {
  const { prototype } = Deno.FsFile, { write, sync } = prototype;
  let left = fails.write ?? Infinity;
  prototype.write = async function (bytes) {
    if (left === 0) throw new Error("No space left on device (os error 28)");
    const count = await write.call(this, bytes.subarray(0, Math.min(left, bytes.length)));
    left -= count;
    return count;
  };
  prototype.sync = async function () {
    if (fails.sync) throw new Error("Input/output error (os error 5)");
    await sync.call(this);
  };
  try {
    await body();
  } finally {
    Object.assign(prototype, { write, sync });
  }
}

Deno.test("writeFileAtomic() leaves the old file and no other when the disk is full or breaks", async () => {
  await withDir(async (dir) => {
    const old = Uint8Array.of(1, 2, 3);
    await writeFileAtomic(`${dir}/a`, old);
    const disks = [{ write: 0 }, { write: 1 }, { write: 70_000 }, { sync: true }];
    for (const disk of disks) {
      await onBadDisk(disk, async () => {
        await assertRejects(
          () => writeFileAtomic(`${dir}/a`, [new Uint8Array(60_000), new Uint8Array(60_000)]),
          Error,
          disk.sync
            ? `Cannot write ${dir}/a: Input/output error (os error 5)`
            : `Cannot write ${dir}/a: No space left on device (os error 28)`,
        );
      });
      assertEquals(Deno.readFileSync(`${dir}/a`), old);
      assertEquals(list(dir), ["a"]);
    }
    // A disk that takes a part at a time.
    await onBadDisk({ write: 3_000 }, () => writeFileAtomic(`${dir}/a`, new Uint8Array(3_000)));
    assertEquals(Deno.readFileSync(`${dir}/a`).length, 3_000);
  });
});
