/** What `bench:compiled` reads of the driver's print; the driver itself is not needed. */

import { assertEquals } from "@std/assert";
import { type Compiled, compiledLine, compiledOf, kernelsIn } from "../../bench/compiled.ts";

/** A loop of blocks 2 to 4 with a short cut, in it one of block 3 alone, and code behind that jumps back nowhere. */
const CODE = `block.u 0 L1 [] -> {
      r0    = s2r sr[0x21]                                 // delay=1 wr:1
      p0    = isetp.lt.u32 r0 c[0x1][0x8]                  // delay=10
@!p0          bra L5                                       // delay=1
} -> [2, 5]
block.u 2 L2 [0, 4] -> {
      r1    = ld.shared.strong.cta.b128 [r0]               // delay=1
      r2    = ffma.ftz r1 r1 r2                            // delay=1
} -> [3, 4]
block 3 L3 [2, 3] -> {
      r2 p1 = iadd3 r2 c[0x1][0x0] rZ                      // delay=3
@p1   r3    = ffma.ftz r1 r1 r3                            // delay=1
      r4..6 = hmma.m16n8k16.f32 r1 r2 r4                   // delay=1
              bar.sync                                     // delay=1
} -> [3, 4]
block 4 L4 [2, 3] -> {
@p1           bra L2                                       // delay=1
} -> [2, 5]
block 5 L5 [0, 4] -> {
      r5    = fmul.ftz r0 0x40000000                       // delay=1
              exit                                         // delay=1
} -> []

Stage: compute
Instruction count: 20
Static cycle count: 126
Max warps/SM: 48
Spills to mem: 3
Spills to reg: 0
Num GPRs: 24
SLM size: 0`;

const WANT: Compiled = {
  registers: 24,
  warps: 48,
  spills: 3,
  instructions: 20,
  // Blocks 2, 3 and 4.
  loop: 7,
  multiplies: 3,
};

Deno.test("machine code in numbers: statistics, and the loop that multiplies most", () => {
  assertEquals(compiledOf(CODE), WANT);
  // Without the jump from 4 to 2 the loop is block 3.
  const inner = compiledOf(CODE.replace("} -> [2, 5]\nblock 5", "} -> [5]\nblock 5"));
  assertEquals([inner.loop, inner.multiplies], [4, 2]);
  const none = compiledOf(CODE.replaceAll(/ffma|hmma/g, "fadd"));
  assertEquals([none.loop, none.multiplies], [0, 0]);
});

Deno.test("kernels are named by the line before their code, and only their last form counts", async () => {
  async function* lines() {
    const text = `NAK IR after calc_instr_deps:\n${CODE}\nEncoded shader:\n  000079c3
LATHE KERNEL matmul
NAK IR after opt_instr_sched_postpass:
block 9 L9 [9] -> {
      r2    = ffma.ftz r1 r1 r2
} -> [9]
NAK IR after calc_instr_deps:
${CODE}
Encoded shader:
  000079c3 00000000
LATHE KERNEL cached
LATHE KERNEL sum
NAK IR after calc_instr_deps:
${CODE}
Encoded shader:`;
    for (const line of text.split("\n")) yield await Promise.resolve(line);
  }
  const found = [];
  const others: string[] = [];
  for await (const { name, compiled } of kernelsIn(lines(), (line) => others.push(line))) {
    found.push([name, compiled]);
  }
  // What comes between, errors among it.
  assertEquals(others.slice(0, 2), ["  000079c3", "NAK IR after opt_instr_sched_postpass:"]);
  assertEquals(found, [["matmul", WANT], ["sum", WANT]]);
});

Deno.test("a line of the table", () => {
  const numbers = (line: string) => line.trim().split(/ {2,}/);
  assertEquals(numbers(compiledLine("matmul", WANT)), [
    "matmul",
    "24",
    "48",
    "3",
    "20",
    "7",
    "43 %",
  ]);
  const line = compiledLine("sum", { ...WANT, loop: 0, multiplies: 0 });
  assertEquals(numbers(line), ["sum", "24", "48", "3", "20"]);
});
