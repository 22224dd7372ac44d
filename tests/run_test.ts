import { assert, assertEquals } from "@std/assert";
import { type Ending, judge, testFiles } from "./run.ts";

const ended = (output: string, code = 0, signal: string | null = null): Ending => ({
  output,
  code,
  signal,
});

Deno.test("judge() reads the counts in Deno's last line", () => {
  const numbers = (output: string, code: number) => {
    const { passed, failed, ignored, crashed, remark } = judge(ended(output, code));
    return [passed, failed, ignored, crashed, remark];
  };
  assertEquals(numbers("\nok | 229 passed (17 steps) | 0 failed (17s)\n\n", 0), [
    ...[229, 0, 0, false, undefined],
  ]);
  assertEquals(numbers("ok | 11 passed | 0 failed | 9 ignored (2m3s)\n", 0)[2], 9);
  assertEquals(numbers("FAILED | 8 passed | 2 failed (1 step) | 1 ignored (3s)\n", 1), [
    ...[8, 2, 1, false, undefined],
  ]);
  // The last line counts, not one that a test has written.
  assertEquals(numbers("ok | 7 passed | 0 failed\nFAILED | 1 passed | 1 failed (1s)\n", 1)[1], 1);
});

Deno.test("judge() counts a run that ends without a result as one failure, a crash as one to repeat", () => {
  const wrong = judge(ended("error: Module not found", 1));
  assertEquals([wrong.passed, wrong.failed, wrong.crashed], [0, 1, false]);
  const endings = [
    ended("a ... ok (3ms)\n", 134, "SIGABRT"),
    ended("panicked", 101),
    ended("", 139),
  ];
  for (const ending of endings) {
    const { passed, failed, crashed, remark } = judge(ending);
    assertEquals([passed, failed, crashed], [0, 1, true]);
    assert(remark?.startsWith("ended without a result"), remark);
  }
  // A process that hangs would hang again.
  const late = judge({ ...ended("", 137, "SIGKILL"), late: true });
  assertEquals([late.failed, late.crashed], [1, false]);
  // One that says it passed none and ends well has said so.
  assertEquals(judge(ended("ok | 0 passed | 0 failed (0ms)\n")).failed, 0);
  assertEquals(judge(ended("", 0)).failed, 1);
});

Deno.test("judge() takes Deno's word where the driver crashes after it, and no other status", () => {
  const ok = "ok | 5 passed | 0 failed (1s)\n\ncorrupted size vs. prev_size in fastbins\n";
  assertEquals(judge(ended(ok, 134, "SIGABRT")).failed, 0);
  assert(judge(ended(ok, 134, "SIGABRT")).remark?.includes("SIGABRT"));
  assertEquals(judge(ended(ok, 1)).failed, 1);
  assertEquals(judge(ended("FAILED | 5 passed | 0 failed (1s)\n", 1)).failed, 1);
  assertEquals(judge(ended("FAILED | 5 passed | 1 failed (1s)\n", 134, "SIGABRT")).failed, 1);
});

Deno.test("testFiles() finds every test file once", () => {
  const files = testFiles();
  assert(files.includes("tests/run_test.ts") && files.includes("tests/engine/gpu/plan_test.ts"));
  assertEquals(new Set(files).size, files.length);
});
