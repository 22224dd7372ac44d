/** The counts of `deno task bench:traffic`. */

import { assertEquals } from "@std/assert";
import { addedRows, rowOf } from "../../bench/traffic.ts";
import { DISCRETE, emulatedGpu } from "../emulator/device.ts";
import type { Turns } from "../emulator/traffic.ts";

/** What 64 threads in each of `groups` workgroups come to. */
async function turnsOf(body: string, groups = 1): Promise<Turns> {
  const { gpu, devices } = emulatedGpu(DISCRETE);
  const device = await (await gpu.requestAdapter())!.requestDevice();
  const buffer = device.createBuffer({ size: 1 << 16, usage: 0x80 });
  const code = `
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<workgroup> s: array<f32, 2048>;
var<workgroup> v: array<vec4<f32>, 512>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) { ${body} }`;
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
  });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  let seen: Turns | undefined;
  devices[0]!.observe = (_kernel, _grid, turns) => seen = turns;
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(groups);
  pass.end();
  device.queue.submit([encoder.finish()]);
  return seen!;
}

Deno.test("sectors of storage and turns of banks are counted a request of 32 lanes", async () => {
  const counts = async (body: string) => {
    const { sectors, fewestSectors, turns, fewestTurns } = await turnsOf(body);
    return [sectors, fewestSectors, turns, fewestTurns];
  };
  // Two subgroups: neighbours, every eighth, one for all.
  assertEquals(await counts("let a = y[i];"), [8, 8, 0, 0]);
  assertEquals(await counts("let a = y[8u * i];"), [64, 8, 0, 0]);
  assertEquals(await counts("let a = y[3];"), [2, 2, 0, 0]);
  // Banks: all, one, every other, one word for all.
  assertEquals(await counts("s[i] = 0.0;"), [0, 0, 2, 2]);
  assertEquals(await counts("s[32u * i] = 0.0;"), [0, 0, 64, 2]);
  assertEquals(await counts("s[2u * i] = 0.0;"), [0, 0, 4, 2]);
  assertEquals(await counts("let a = s[5];"), [0, 0, 2, 2]);
  // Fours go by eight threads: neighbours, and apart by all banks.
  assertEquals(await counts("let a = v[i];"), [0, 0, 8, 8]);
  assertEquals(await counts("let a = v[8u * i];"), [0, 0, 64, 8]);
  // Each turn of a loop is a request of its own, also those past the repeats that are looked at.
  const loop = "for (var k = 0u; k < 80u; k++) { let a = y[i + 64u * k]; }";
  assertEquals(await counts(loop), [640, 640, 0, 0]);
});

Deno.test("what is seen of two workgroups is reckoned up for all", async () => {
  const one = await turnsOf("let a = y[i];"), many = await turnsOf("let a = y[i];", 50);
  assertEquals(many.sectors, 50 * one.sectors);
});

Deno.test("rows of one kernel are added up, the heaviest first", () => {
  const turns = { sectors: 1e6, fewestSectors: 5e5, turns: 0, fewestTurns: 0 };
  const light = { threads: 64, cost: { flops: 0, bytes: 4e6 }, turns };
  const rows = addedRows([
    rowOf("a", light),
    rowOf("b", { ...light, cost: { flops: 6e9, bytes: 0 } }),
    rowOf("a", { ...light, threads: 32 }),
  ]);
  assertEquals(rows.map((r) => r.kernel), ["b", "a"]);
  const { times, threads, memory, sectors } = rows[1]!;
  assertEquals([times, threads, memory, sectors], [2, 32, 2, 2e6]);
});
