import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { main as convert } from "../../experiments/convert.ts";
import { main as inspect } from "../../experiments/inspect.ts";
import { UsageError } from "../../experiments/_args.ts";
import { nn } from "../../mod.ts";
import { ordered, torchTensor, torchZip } from "../helpers/torch_file.ts";

const { encodeSafetensors, readWeights } = nn.io;

async function inFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** What a script prints. */
async function printed(run: () => Promise<number>): Promise<string> {
  const { log } = console;
  const lines: unknown[] = [];
  console.log = (line) => lines.push(line);
  try {
    assertEquals(await run(), 0);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

const DATA = Float32Array.of(0, 1, 2, 3, 4, 5);

function torchFile(): Uint8Array {
  const value = new Map<string, unknown>([
    ["epoch", 3],
    [
      "state_dict",
      ordered({
        "module.fc.weight": torchTensor("Float", { length: 6, shape: [2, 3], strides: [3, 1] }),
        "module.bn.running_mean": torchTensor("Float", { length: 6, shape: [2], strides: [2] }),
      }),
    ],
  ]);
  return torchZip(value, { "0": new Uint8Array(DATA.buffer) });
}

Deno.test("deno task convert writes safetensors and npz with the same elements", () =>
  inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.pth`, torchFile());
    const flags = ["--strip-prefix", "module."];
    const said = await printed(() => convert([`${dir}/a.pth`, `${dir}/b.safetensors`, ...flags]));
    assertEquals(said.split(":")[0], `${dir}/a.pth (torch) → ${dir}/b.safetensors`);
    await printed(() => convert([`${dir}/b.safetensors`, `${dir}/c.npz`, "--compress"]));
    await printed(() => convert([`${dir}/c.npz`, `${dir}/d.safetensors`]));
    const [b, c, d] = await Promise.all(
      ["b.safetensors", "c.npz", "d.safetensors"].map((name) => readWeights(`${dir}/${name}`)),
    );
    const expected = {
      "bn.running_mean": { dtype: "F32" as const, shape: [2], data: Float32Array.of(0, 2) },
      "fc.weight": { dtype: "F32" as const, shape: [2, 3], data: DATA },
    };
    for (const weights of [b, c, d]) assertEquals({ ...weights!.arrays }, expected);
    assertEquals(b!.metadata, { format: "pt" });
    assertEquals(
      Deno.readFileSync(`${dir}/b.safetensors`),
      Deno.readFileSync(`${dir}/d.safetensors`),
    );
  }));

Deno.test("deno task convert keeps bf16, or widens it for NumPy", () =>
  inFolder(async (dir) => {
    const bits = Uint16Array.of(0x3f80, 0xc000);
    const bytes = encodeSafetensors({ x: { dtype: "BF16", shape: [2], data: bits } }, { a: "b" });
    await Deno.writeFile(`${dir}/a.safetensors`, bytes);
    await printed(() => convert([`${dir}/a.safetensors`, `${dir}/b.safetensors`]));
    assertEquals(Deno.readFileSync(`${dir}/b.safetensors`), bytes);
    await printed(() => convert([`${dir}/a.safetensors`, `${dir}/b.npz`]));
    const { arrays } = await readWeights(`${dir}/b.npz`);
    assertEquals(arrays, { x: { dtype: "F32", shape: [2], data: Float32Array.of(1, -2) } });
  }));

Deno.test("deno task convert says what it does not do", () =>
  inFolder(async (dir) => {
    const two = encodeSafetensors({
      "m.x": { dtype: "F8_E4M3", shape: [1], data: new Uint8Array(1) },
      "x": { dtype: "F32", shape: [1], data: new Float32Array(1) },
    });
    await Deno.writeFile(`${dir}/a`, two);
    const fails = (args: string[], message: string) =>
      assertRejects(() => convert(args), UsageError, message);
    await fails(["a"], "Expected FROM and TO, got 1 arguments");
    await fails([`${dir}/a`, `${dir}/b.pth`], "must end in .safetensors or .npz");
    await fails([`${dir}/a`, `${dir}/b.npz`], "NumPy has no F8_E4M3");
    await fails([`${dir}/a`, `${dir}/b.npz`, "--strip-prefix", "m."], 'would be named "x"');
    assertEquals([...Deno.readDirSync(dir)].length, 1);
  }));

Deno.test("deno task inspect lists tensors of every format", () =>
  inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.pth`, torchFile());
    const text = await printed(() => inspect([`${dir}/a.pth`]));
    assertStringIncludes(text, `${dir}/a.pth: torch, `);
    const row = "module.fc.weight        F32   [2, 3]     24";
    assertStringIncludes(text, row);
    assertStringIncludes(text, "2 tensors of F32, 32 bytes\n6 parameters, statistics of norm");
    for (const name of ["b.npz", "b.safetensors"]) {
      await printed(() => convert([`${dir}/a.pth`, `${dir}/${name}`]));
      assertStringIncludes(await printed(() => inspect([`${dir}/${name}`])), row);
    }
    const one = await printed(() => inspect([`${dir}/a.pth`, "--names", "running"]));
    assert(!one.includes("fc.weight") && one.includes("running_mean"), one);
    const sly = encodeSafetensors({
      "\u001b[2J": { dtype: "F32", shape: [0], data: DATA.subarray(6) },
    });
    await Deno.writeFile(`${dir}/c`, sly);
    assertStringIncludes(await printed(() => inspect([`${dir}/c`])), "\\u001b[2J");
  }));

Deno.test("deno task inspect lists the tensors of a URL by its header", async () => {
  const bytes = nn.io.encodeSafetensors({
    w: { dtype: "F32", shape: [1000, 1000], data: new Float32Array(1e6) },
  });
  let sent = 0;
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "")!;
    const part = bytes.slice(Number(first), Number(last) + 1);
    sent += part.length;
    const headers = {
      "content-range": `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`,
    };
    return new Response(part, { status: 206, headers });
  });
  const url = `http://127.0.0.1:${server.addr.port}/w.safetensors`;
  const text = await printed(() => inspect([url]));
  assertStringIncludes(text, `${url}: safetensors, 4.0 MB`);
  assertStringIncludes(text, "[1000, 1000]");
  assert(sent < 2e5);
});

Deno.test("deno task inspect counts a checkpoint's parameters without the optimizer's numbers", () =>
  inFolder(async (dir) => {
    const state = { model: { weight: DATA }, optimizer: { moment: DATA.slice() }, epoch: 3 };
    await nn.io.saveCheckpoint(`${dir}/a`, state);
    const text = await printed(() => inspect([`${dir}/a`]));
    assertStringIncludes(text, "a: checkpoint, ");
    assertStringIncludes(text, "\n2 tensors of F32, 48 bytes\n6 parameters\n");
    assertStringIncludes(text, '"epoch":3');
  }));

Deno.test("deno task inspect tells of a run folder", () =>
  inFolder(async (dir) => {
    const terminal = { isTerminal: false, columns: () => 80, write: () => {} };
    const config = { experiment: "letters", preset: "quick", seed: 7, options: { lr: 0.5 } };
    const columns = ["Epoch", "Loss"];
    const run = await nn.run.RunFolder.create(config, { out: `${dir}/run`, columns, terminal });
    run[Symbol.dispose]();
    assertStringIncludes(await printed(() => inspect([`${dir}/run`])), "Last row: none");
    run.metrics.append({ Epoch: 1, Loss: 0.25 });
    const weights = encodeSafetensors({ x: { dtype: "F32", shape: [6], data: DATA } });
    await Deno.writeFile(`${dir}/run/best.safetensors`, weights);
    const text = await printed(() => inspect([`${dir}/run`]));
    for (
      const part of [
        "a run of letters, preset quick\nSeed: 7\n",
        "Options: lr 0.5\nEpochs: 1\nLast row: Epoch 1, Loss 0.25\n",
        "best.safetensors: safetensors",
        "6 parameters",
      ]
    ) assertStringIncludes(text, part);
    await assertRejects(() => inspect([dir]), nn.run.RunError, "not a run folder");
  }));
