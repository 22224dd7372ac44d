import { assert, assertEquals, assertStringIncludes } from "@std/assert";

const DIR = new URL("./", import.meta.url).pathname;

async function tiny(args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--allow-read",
      "--allow-write",
      "--allow-sys=systemMemoryInfo",
      `${DIR}tiny_run.ts`,
      ...args,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assert(success, decoder.decode(stderr));
  return decoder.decode(stdout);
}

Deno.test("--profile prints the heaviest kernels, writes a trace and leaves the run as it is", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const [plain, timed] = [`${dir}/plain`, `${dir}/timed`];
    await tiny(["--epochs", "3", "--out", plain]);
    const printed = await tiny(["--epochs", "3", "--out", timed, "--profile"]);
    assertStringIncludes(printed, "Profile of 3 training steps after 3");
    assertStringIncludes(printed, "kernel");
    assertStringIncludes(printed, "Adam");
    const { traceEvents } = JSON.parse(await Deno.readTextFile(`${timed}/trace.json`));
    const modules = traceEvents.filter((e: { tid: number; ph: string }) =>
      e.ph === "X" && e.tid === 2
    )
      .map((e: { name: string }) => e.name);
    assert(modules.includes("Sequential") && modules.includes("Adam"), `${modules}`);
    const weights = (run: string) => Deno.readFile(`${run}/last.safetensors`);
    assertEquals(await weights(timed), await weights(plain));
    const metrics = (run: string) => Deno.readTextFile(`${run}/metrics.csv`);
    assertEquals(await metrics(timed), await metrics(plain));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
