import { assert, assertEquals, assertThrows } from "@std/assert";
import { ProgressBar, type ProgressOptions, type Terminal } from "../../../nn/run/mod.ts";

/** A terminal that keeps what was written, with a clock that the test moves. */
class FakeTerminal implements Terminal {
  output = "";
  time = 0;
  constructor(readonly isTerminal: boolean, public width = 100) {}
  columns(): number {
    return this.width;
  }
  write(text: string): void {
    this.output += text;
  }
  bar(total: number, options: ProgressOptions = {}): ProgressBar {
    return new ProgressBar(total, { terminal: this, now: () => this.time, ...options });
  }
  /** What the current line shows after carriage returns and clears. */
  get line(): string {
    return this.output.split("\n").at(-1)!.split("\r\x1b[K").at(-1)!;
  }
  get draws(): number {
    return this.output.split("\r\x1b[K").length - 1;
  }
}

Deno.test("ProgressBar writes the notebooks' lines about every 20 % when piped", () => {
  const terminal = new FakeTerminal(false);
  const recorded: string[] = [];
  const bar = terminal.bar(32, { record: (line) => recorded.push(line) });
  for (let step = 1; step <= 32; step++) {
    bar.update({ step, samples: step * 128, loss: 3.2580971, accuracy: 0.03125 });
  }
  bar.finish();
  // The notebook prints batch index 0, 6, 12, … for 32 batches.
  const steps = [1, 7, 13, 19, 25, 31];
  const lines = steps.map((step) =>
    `Batch ${step}/32 - Batch Loss: 3.258097, Batch Accuracy: 3.1250%`
  );
  assertEquals(terminal.output, lines.map((line) => `${line}\n`).join(""));
  assertEquals(recorded, lines);
  assertEquals(steps.map((step) => bar.isReportStep(step)), steps.map(() => true));
  assert(!bar.isReportStep(2));
});

Deno.test("ProgressBar leaves metrics out of a line that nobody has read", () => {
  const terminal = new FakeTerminal(false);
  const bar = terminal.bar(3, { step: "Image" });
  bar.update({ step: 1 });
  bar.update({ step: 2, loss: 0.5 });
  bar.update({ step: 3 });
  assertEquals(
    terminal.output,
    "Image 1/3\nImage 2/3 - Image Loss: 0.500000\n" + "Image 3/3 - Image Loss: 0.500000\n",
  );
});

Deno.test("ProgressBar shows bar, rate, loss, accuracy, wait share and time left", () => {
  const terminal = new FakeTerminal(true, 120);
  const recorded: string[] = [];
  const bar = terminal.bar(40, { label: "Epoch 2/9", record: (line) => recorded.push(line) });
  for (let step = 1; step <= 10; step++) {
    terminal.time = step * 500;
    bar.update({
      step,
      samples: step * 64,
      loss: 1.23456,
      accuracy: 0.5,
      waitSeconds: step * 0.01,
    });
  }
  // 10 of 40 steps and 640 samples in 5 s; 10 half-cell units of 40 cells are 10 cells.
  assertEquals(
    terminal.line,
    `Epoch 2/9 ${"━".repeat(10)}${
      "┄".repeat(30)
    } 10/40  128 samples/s  loss 1.2346  acc 50.0%  wait 2%  ETA 0:15`,
  );
  assertEquals(recorded.length, 2);
  bar.finish();
  assert(terminal.output.endsWith("wait 2%  0:05\n"), terminal.output);
});

Deno.test("ProgressBar redraws at most ten times a second", () => {
  const terminal = new FakeTerminal(true);
  const bar = terminal.bar(1000);
  for (let step = 1; step <= 1000; step++) {
    terminal.time = step; // 1 ms a step
    bar.update({ step });
  }
  assertEquals(terminal.draws, 10);
  assert(terminal.line.includes("901/1000"));
  bar.finish();
  assertEquals(terminal.draws, 11);
  assert(terminal.output.trimEnd().includes("1000/1000"));
});

Deno.test("ProgressBar never fills the line and drops the least important part first", () => {
  for (let width = 1; width <= 110; width++) {
    const terminal = new FakeTerminal(true, width);
    const bar = terminal.bar(500, { label: "Epoch 12/300" });
    terminal.time = 1000;
    bar.update({ step: 1, samples: 12345, loss: 0.0001, accuracy: 1, waitSeconds: 0.5 });
    assert(terminal.line.length <= Math.max(1, width - 3), `width ${width}: ${terminal.line}`);
  }
  const shown = (width: number) => {
    const terminal = new FakeTerminal(true, width);
    terminal.bar(500).update({ step: 0 });
    const bar = terminal.bar(500);
    terminal.time = 1000;
    bar.update({ step: 1, samples: 12345, loss: 0.25, accuracy: 1, waitSeconds: 0.5 });
    return ["samples/s", "loss", "acc", "wait", "ETA"].filter((word) =>
      terminal.line.includes(word)
    );
  };
  assertEquals(shown(102), ["samples/s", "loss", "acc", "wait", "ETA"]);
  assertEquals(shown(70), ["samples/s", "loss", "acc", "ETA"]);
  assertEquals(shown(60), ["samples/s", "loss", "ETA"]);
  assertEquals(shown(50), ["samples/s", "loss"]);
  assertEquals(shown(34), ["loss"]);
  assertEquals(shown(21), []);
});

Deno.test("ProgressBar takes the rate from the last seconds, not from the slow start", () => {
  const terminal = new FakeTerminal(true, 120);
  const bar = terminal.bar(1000, { unit: "images" });
  terminal.time = 60_000; // the first step compiles for a minute
  bar.update({ step: 1, samples: 10 });
  for (let step = 2; step <= 200; step++) {
    terminal.time += 100;
    bar.update({ step, samples: step * 10 });
  }
  assert(terminal.line.includes(" 100 images/s"), terminal.line);
  assert(terminal.line.includes("ETA 1:20"), terminal.line); // 800 steps of 0.1 s
});

Deno.test("ProgressBar takes rate and time left from where a pass is resumed", () => {
  const terminal = new FakeTerminal(true, 120);
  const bar = terminal.bar(1000, { start: { step: 900, samples: 900 * 64 } });
  for (let step = 901; step <= 905; step++) {
    terminal.time += 1000;
    bar.update({ step, samples: step * 64 });
    assert(terminal.line.includes(`${step}/1000  64.0 samples/s`), terminal.line);
    const left = 1000 - step;
    assert(terminal.line.endsWith(`ETA 1:${String(left - 60).padStart(2, "0")}`), terminal.line);
  }
  for (const step of [-1, 1001, 1.5, NaN]) {
    const make = () => new ProgressBar(1000, { start: { step } });
    assertThrows(make, RangeError, `Cannot show progress from step ${step}`);
  }
});

Deno.test("ProgressBar.log() puts a line above the bar", () => {
  const terminal = new FakeTerminal(true);
  const bar = terminal.bar(10);
  bar.update({ step: 1 });
  bar.log("Checkpoint saved");
  assert(terminal.output.includes("\r\x1b[KCheckpoint saved\n"), JSON.stringify(terminal.output));
  assert(terminal.line.includes("1/10"));
  bar.finish();
  bar.log("After");
  assert(terminal.output.endsWith("\nAfter\n"));
});

Deno.test("ProgressBar formats small losses, long times and large rates", () => {
  const terminal = new FakeTerminal(true, 120);
  const bar = terminal.bar(100_000);
  terminal.time = 1000;
  bar.update({ step: 10, samples: 1_234_567, loss: 0.000123 });
  assert(terminal.line.includes("1,234,567 samples/s"), terminal.line);
  assert(terminal.line.includes("loss 1.23e-4"), terminal.line);
  assert(terminal.line.includes("ETA 2:46:39"), terminal.line); // 99,990 steps of 0.1 s
});

Deno.test("ProgressBar throws on a total that is no positive integer", () => {
  for (const total of [0, -1, 1.5, NaN]) {
    assertThrows(() => new ProgressBar(total), RangeError, "total must be an integer >= 1");
  }
});
