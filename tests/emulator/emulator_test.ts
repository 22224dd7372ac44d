/** The emulated GPU itself: what it computes, and that it sees the faults that it is there to see. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { BufferUsage, MapMode } from "../../engine/gpu/flags.ts";
import { DISCRETE, EmulatedDevice, emulatedGpu, type Hardware } from "./device.ts";
import { runtimeOf } from "./numbers.ts";

interface Outcome {
  readonly words: Uint32Array;
  readonly faults: readonly string[];
}

/** Runs a text on `words` u32 bound for reading and writing as binding 0. */
async function run(
  code: string,
  given: { words: number; groups?: number; hardware?: Hardware },
): Promise<Outcome> {
  const { gpu } = emulatedGpu(given.hardware ?? DISCRETE);
  const adapter = await gpu.requestAdapter();
  const device = await adapter!.requestDevice({
    requiredFeatures: [...adapter!.features] as GPUFeatureName[],
    requiredLimits: DISCRETE.limits as Record<string, number>,
  });
  const size = 4 * given.words;
  const buffer = device.createBuffer({
    size,
    usage: BufferUsage.STORAGE | BufferUsage.COPY_SRC,
  });
  const staging = device.createBuffer({
    size,
    usage: BufferUsage.COPY_DST | BufferUsage.MAP_READ,
  });
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module, entryPoint: "main" },
  });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(given.groups ?? 1);
  pass.end();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  await staging.mapAsync(MapMode.READ);
  const { faults } = device as unknown as EmulatedDevice;
  return {
    words: new Uint32Array(staging.getMappedRange()),
    faults: error ? [error.message, ...faults] : [...faults],
  };
}

const HEAD = (threads: number, extra = "") => `
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
${extra}
@compute @workgroup_size(${threads}) fn main(
  @builtin(local_invocation_index) i: u32, @builtin(workgroup_id) wid: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) sub: u32,
) `;

/** Expressions of u32, and what they come to. */
const VALUES: readonly (readonly [string, number])[] = [
  ["4294967295u + 2u", 1],
  ["3u - 4u", 4294967295],
  ["65537u * 65537u", 131073],
  ["7u / select(0u, 1u, i == 9u)", 7],
  ["7u % select(0u, 1u, i == 9u)", 0],
  ["u32(-7 / 2 + 10)", 7],
  ["u32(-7 % 4 + 10)", 7],
  ["1u << 33u", 2],
  ["u32((-8 >> 1u) + 10)", 6],
  ["0xf0u >> 4u | 1u ^ 3u & 2u", 15],
  ["u32(1e10)", 4294967295],
  ["u32(-3.7)", 0],
  ["u32(3.99)", 3],
  ["bitcast<u32>(1.0)", 0x3f800000],
  ["bitcast<u32>(0.1 + 0.2)", 0x3e99999a],
  ["bitcast<u32>(f32(16777217u))", 0x4b800000],
  ["u32(f16(2049.0))", 2048],
  ["u32(round(2.5) + round(3.5) * 10.0)", 42],
  ["u32(fma(3.0, 4.0, 5.0))", 17],
  ["vec4(1u, 2u, 3u, 4u).wzyx.y", 3],
  ["(vec2<u32>(1u, 2u) * 3u + vec2(10u, 20u)).y", 26],
  ["u32(dot(vec3(1.0, 2.0, 3.0), vec3(4.0, 5.0, 6.0)))", 32],
  ["select(1u, 2u, all(vec2(1u, 2u) < vec2(2u, 2u)))", 1],
  ["select(1u, 2u, any(vec2(1u, 2u) < vec2(2u, 2u)))", 2],
  ["countLeadingZeros(1u) + max(3u, 4u) + clamp(9u, 1u, 5u)", 40],
  ["twice(twice(5u))", 20],
  ["summed(5u)", 0 + 1 + 3 + 4],
  ["picked(2u) + picked(7u) * 100u", 9920],
  ["pairs(3u)", 35],
];

const FUNCTIONS = `
alias Word = u32;
struct Pair { a: u32, b: u32 }
const BASE = 90u;
fn twice(x: Word) -> Word { return 2u * x; }
fn summed(n: u32) -> u32 {
  var sum = 0u;
  for (var k = 0u; k < n; k++) { if (k == 2u) { continue; } sum += k; }
  var rest = 3u;
  while (rest > 0u) { rest--; if (rest == 1u) { break; } }
  loop { if (rest >= 1u) { break; } rest++; }
  return sum + rest - 1u;
}
fn picked(x: u32) -> u32 {
  switch (x) { case 1u, 2u: { return 20u; } case 3u: { return 30u; } default: { return BASE + 9u; } }
}
fn pairs(x: u32) -> u32 {
  var list: array<vec2<u32>, 2>;
  list[1].y = x;
  list[0] = vec2(1u, 2u);
  let p = Pair(list[1].y, list[0].y);
  { let x = x + 1u; list[0].x = x * 8u; }
  return list[0].x + p.a * p.b - 3u;
}`;

Deno.test("the emulated GPU computes what WGSL says", async () => {
  const stores = VALUES.map(([text], k) => `  y[${k}] = ${text};`);
  const code = `enable f16;\n${HEAD(1, FUNCTIONS)}{\n${stores.join("\n")}\n}`;
  const { words, faults } = await run(code, { words: VALUES.length });
  assertEquals(faults, []);
  assertEquals(VALUES.map(([text], k) => [text, words[k]]), VALUES.map((v) => [...v]));
});

Deno.test("what is no WGSL, or mixes types, is refused with its line", async () => {
  for (
    const [body, words] of [
      ["y[0] = 1u + 1;", ""],
      ["y[0] = 1u + 1i;", "line 8: u32 + i32"],
      ["y[0] = 1.0;", "line 8: float where u32 belongs"],
      ["y[0] = z;", "line 8: z is not declared"],
      ["y[0] = f(1u);", "line 8: the function f is not known"],
      ["let v = vec2(1u, 2u); y[0] = v.z;", "has no z"],
      ["y[0] = 1u", "; is missing"],
      ["y[1.0] = 1u;", "float is no index"],
    ] as const
  ) {
    const { faults } = await run(`${HEAD(1)}{\n${body}\n}`, { words: 2 });
    if (words === "") assertEquals(faults, []);
    else assert(faults[0]?.includes(words), `${body}: ${faults[0]}`);
  }
});

const SHARED = "var<workgroup> s: array<u32, 64>; var<workgroup> one: u32; " +
  "var<workgroup> most: atomic<u32>;";

/** Bodies of 64 threads, and the fault that each has; "" for none. */
const FAULTS: readonly (readonly [string, string])[] = [
  // A neighbour's value, with and without a barrier.
  ["s[i] = i; workgroupBarrier(); y[i] = s[63u - i];", ""],
  ["s[i] = i; y[i] = s[63u - i];", "race for s"],
  ["s[i] = i; storageBarrier(); y[i] = s[63u - i];", "race for s"],
  ["s[i] = i; y[i] = s[i];", ""],
  // Written again while others still read.
  ["s[i] = i; workgroupBarrier(); let a = s[i ^ 1u]; s[i] = a;", "race for s"],
  ["s[i] = i; workgroupBarrier(); let a = s[i ^ 1u]; workgroupBarrier(); s[i] = a;", ""],
  ["one = i;", "race for one"],
  ["if (i == 3u) { one = i; } y[i] = workgroupUniformLoad(&one);", ""],
  ["atomicMax(&most, i); workgroupBarrier(); y[i] = atomicLoad(&most);", ""],
  // Storage, which its own barrier orders, and only within a group.
  ["y[i] = i; storageBarrier(); s[i] = y[63u - i];", ""],
  ["y[i] = i; workgroupBarrier(); s[i] = y[63u - i];", "race for y"],
  ["y[i] = i;", ""],
  ["y[0] = 1u;", "race for y"],
  ["y[64u + i] = 1u;", "writes y outside"],
  // Reads outside are allowed: what comes of them must not matter.
  ["y[i] = select(y[4000u + i], 1u, i < 64u);", ""],
  ["var a: array<u32, 4>; y[i] = a[i];", "element 4 of an array of 4"],
  // Threads that part.
  ["if (i < 32u) { workgroupBarrier(); }", "have ended where the others wait"],
  ["if (i < 32u) { workgroupBarrier(); } else { workgroupBarrier(); }", "different barriers"],
  ["if (i < 9u) { return; } workgroupBarrier();", "have ended where the others wait"],
  ["if (wid.x == 0u) { return; } workgroupBarrier();", ""],
  ["y[i] = subgroupBroadcast(i, 3u);", ""],
  ["if (lane < 9u) { y[i] = subgroupBroadcast(i, 3u); }", "do not come to broadcast together"],
  ["if (sub == 1u) { y[i] = subgroupBroadcast(i, 3u); }", ""],
  ["y[i] = subgroupBroadcast(i, 32u);", "from lane 32 of 32"],
];

Deno.test("races, parted threads and writes outside are seen, and nothing else", async () => {
  for (const [body, fault] of FAULTS) {
    const { faults } = await run(`${HEAD(64, SHARED)}{ ${body} }`, { words: 64 });
    if (fault === "") assertEquals(faults, [], body);
    else assert(faults.length > 0 && faults.every((f) => f.includes(fault)), `${body}: ${faults}`);
  }
});

Deno.test("groups are not ordered, whatever barriers they have", async () => {
  const shared = "y[0] = wid.x; storageBarrier(); workgroupBarrier();";
  const body = `if (i == 0u) { y[0] = wid.x; } storageBarrier();`;
  for (const text of [shared, body]) {
    const { faults } = await run(`${HEAD(64, SHARED)}{ ${text} }`, { words: 64, groups: 2 });
    assert(faults.some((f) => f.includes("race for y")), text);
  }
  const apart = await run(`${HEAD(64)}{ y[64u * wid.x + i] = i; }`, { words: 128, groups: 2 });
  assertEquals(apart.faults, []);
});

Deno.test("subgroups are as wide as the hardware's", async () => {
  const body = "let all = subgroupAdd(1u); y[i] = 1000u * subgroupBroadcast(i, 2u) + all;";
  for (const subgroupSize of [8, 32, 64]) {
    const hardware = { ...DISCRETE, subgroupSize };
    const { words, faults } = await run(`${HEAD(64)}{ ${body} }`, { words: 64, hardware });
    assertEquals(faults, []);
    const want = Array.from(
      { length: 64 },
      (_, i) => 1000 * (i - i % subgroupSize + 2) + subgroupSize,
    );
    assertEquals([...words], want);
  }
});

Deno.test("hardware that is coarse is off, and no more than allowed", () => {
  const exact = runtimeOf({ flush: false, unfused: false, coarse: false }).F32;
  const coarse = runtimeOf({ flush: false, unfused: false, coarse: true }).F32;
  let different = 0;
  for (let x = 0.013; x < 20; x *= 1.37) {
    if (coarse.exp(x) !== exact.exp(x)) different++;
    assertAlmostEquals(coarse.exp(x) / Math.exp(x), 1, (3 + 2 * x) * 2 ** -23);
    assertAlmostEquals(coarse.sqrt(x) / Math.sqrt(x), 1, 4.5 * 2 ** -23);
    assertAlmostEquals(coarse.divide(1.3, x) / (1.3 / x), 1, 2.5 * 2 ** -23);
    assertAlmostEquals(coarse.sin(x), Math.sin(x), 2 ** -11 + 2 ** -24);
  }
  assert(different > 10, `${different} of 22`);
  assertEquals([coarse.exp(0), coarse.divide(3, 4), coarse.sqrt(4)], [1, 0.75, 2]);
  const { f32 } = runtimeOf({ flush: true, unfused: false, coarse: false });
  assertEquals([f32(2 ** -127), f32(2 ** -126)], [0, 2 ** -126]);
});
