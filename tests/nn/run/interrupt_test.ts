import { assert, assertEquals } from "@std/assert";

const MOD = new URL("../../../nn/run/mod.ts", import.meta.url).href;
const windows = Deno.build.os === "windows";

/** Runs a script that says `ready` when it waits for signals; `steer` gets the running process. */
async function runScript(
  body: string,
  steer: (
    kill: (signal: Deno.Signal) => void,
    until: (word: string) => Promise<void>,
  ) => Promise<void>,
): Promise<{ code: number; signal: Deno.Signal | null; output: string }> {
  const script = `import { Interrupt } from ${JSON.stringify(MOD)};\n${body}`;
  const child = new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--allow-run",
      `data:application/typescript,${encodeURIComponent(script)}`,
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let output = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const until = async (word: string) => {
    while (!output.includes(word)) {
      const { done, value } = await reader.read();
      assert(!done, `The script ended before it said ${word}: ${output}`);
      output += value;
    }
  };
  try {
    await steer((signal) => child.kill(signal), until);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      output += value;
    }
  } finally {
    try {
      child.kill("SIGKILL");
    } catch { /* it has ended */ }
  }
  const { code, signal } = await child.status;
  return { code, signal, output };
}

const LOOP = `
  using interrupt = new Interrupt({ onFirst: (signal) => console.log("first", signal) });
  let steps = 0;
  while (!(await interrupt.poll())) if (++steps === 1) console.log("ready");
  console.log("saved", interrupt.reason, interrupt.exitCode, steps > 0);
`;

Deno.test({
  name: "Interrupt is seen within a step or two where steps take long",
  ignore: windows,
  async fn() {
    const { output } = await runScript(
      `
  const work = () => { for (const end = performance.now() + 60; performance.now() < end;); };
  const seen = [];
  for (let round = 0; round < 6; round++) {
    using interrupt = new Interrupt();
    let steps = 0;
    do {
      work();
      if (++steps === 2) Deno.kill(Deno.pid, "SIGINT");
    } while (!(await interrupt.poll()) && steps < 20);
    seen.push(steps);
  }
  console.log(seen.every((steps) => steps <= 5) ? "soon" : seen.join());
`,
      async () => {},
    );
    assertEquals(output, "soon\n");
  },
});

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  Deno.test({
    name: `Interrupt lets the step end at the first ${signal}`,
    ignore: windows,
    async fn() {
      const result = await runScript(LOOP, async (kill, until) => {
        await until("ready");
        kill(signal);
      });
      assertEquals(result.output, `ready\nfirst ${signal}\nsaved ${signal} ${code} true\n`);
      assertEquals(result.code, 0);
    },
  });

  Deno.test({
    name: `Interrupt ends the process with ${code} at a second ${signal}`,
    ignore: windows,
    async fn() {
      const result = await runScript(
        `
        const interrupt = new Interrupt({ onFirst: () => console.log("first") });
        console.log("ready");
        for (;;) await interrupt.poll();
        `,
        async (kill, until) => {
          await until("ready");
          kill(signal);
          await until("first");
          kill(signal);
        },
      );
      assertEquals(result.output, "ready\nfirst\n");
      assertEquals([result.code, result.signal], [code, null]);
    },
  });
}

Deno.test({
  name: "Interrupt gives Ctrl-C its usual meaning back when disposed",
  ignore: windows,
  async fn() {
    const result = await runScript(
      `
      { using interrupt = new Interrupt(); console.log(interrupt.reason, interrupt.exitCode); }
      console.log("ready");
      await new Promise((resolve) => setTimeout(resolve, 60_000));
      `,
      async (kill, until) => {
        await until("ready");
        kill("SIGINT");
      },
    );
    assertEquals(result.output, "undefined 0\nready\n");
    assertEquals(result.signal, "SIGINT");
  },
});
