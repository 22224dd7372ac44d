/**
 * @file `deno task board`: all runs side by side in a browser, on this machine only.
 *
 *   deno task board
 *   deno task board --runs DIR --port 9000
 *
 * It shows the options in which runs differ, their scores and their curves, and follows runs that go on. It
 * only reads, and only the runs folder.
 */

import { nn } from "../mod.ts";
import { defineFlags, runMain } from "./_args.ts";

const FLAGS = defineFlags({
  runs: { type: "path", default: "runs", help: "Folder that holds the runs" },
  port: { type: "integer", default: 8265, min: 0, max: 65535, help: "Port on 127.0.0.1" },
}, { command: "deno task board", about: "Shows all runs side by side in a browser." });

if (import.meta.main) {
  await runMain(async () => {
    const { options } = FLAGS.parse(Deno.args);
    await nn.run.serveBoard({
      ...options,
      onListen: (url) => console.log(`The runs in ${options.runs} are at ${url}; Ctrl-C ends it`),
    });
  });
}
