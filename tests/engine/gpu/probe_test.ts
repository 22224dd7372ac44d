import { assert, assertEquals } from "@std/assert";
import { gpu, init } from "../../../engine/gpu/device.ts";
import {
  type AdapterFacts,
  adapterFacts,
  backendOf,
  dispatchCost,
  judgeF16,
  judgeTimestamps,
  readbackMs,
  tryF16,
  trySubgroups,
  tryTimestamps,
  vendorName,
} from "../../../engine/gpu/probe.ts";

// Deno 2.9.6 on Mesa 25.0.7, with its Vulkan driver and without.
const LAVAPIPE: AdapterFacts = {
  vendor: "65541",
  architecture: "",
  description: "llvmpipe (LLVM 15.0.6, 256 bits)",
  features: new Set(["shader-f16", "timestamp-query"]),
  subgroupMinSize: 8,
  subgroupMaxSize: 8,
  maxSampledTexturesPerShaderStage: 124976,
  maxStorageBuffersPerShaderStage: 48,
};
const LLVMPIPE_GL: AdapterFacts = {
  ...LAVAPIPE,
  features: new Set(["timestamp-query"]),
  subgroupMinSize: 4,
  subgroupMaxSize: 128,
  maxSampledTexturesPerShaderStage: 16,
  maxStorageBuffersPerShaderStage: 16,
};

Deno.test("backendOf() tells OpenGL from Vulkan by what OpenGL cannot say", () => {
  assertEquals(backendOf(LAVAPIPE, "linux"), "Vulkan");
  assertEquals(backendOf(LLVMPIPE_GL, "linux"), "OpenGL");
  // Vulkan 1.0 has no subgroup sizes either, but many textures.
  assertEquals(
    backendOf({ ...LAVAPIPE, subgroupMinSize: 4, subgroupMaxSize: 128 }, "linux"),
    "Vulkan",
  );
  // A Vulkan driver with few textures says its subgroup sizes.
  assertEquals(backendOf({ ...LAVAPIPE, maxSampledTexturesPerShaderStage: 32 }, "linux"), "Vulkan");
  assertEquals(backendOf(LAVAPIPE, "darwin"), "Metal");
  assertEquals(backendOf(LAVAPIPE, "windows"), "Direct3D 12");
  assertEquals(backendOf(LAVAPIPE, "solaris"), "unknown");
});

Deno.test("vendorName() puts PCI numbers into words", () => {
  assertEquals(vendorName("65541"), "Mesa (0x10005)");
  assertEquals(vendorName("4318"), "NVIDIA (0x10de)");
  assertEquals(vendorName("1"), "0x0001");
  assertEquals(vendorName("nvidia"), "nvidia");
  assertEquals(vendorName(""), "unknown");
});

Deno.test("judgeF16() wants 1/3 to the last places", () => {
  assertEquals(judgeF16(0x3555, 0), { works: true, detail: "1/3 comes out right" });
  assert(judgeF16(0x3556, 0).works);
  assert(judgeF16(0x3555, 0x3c00).detail.includes("more than 11 bits"));
  assertEquals(judgeF16(0, 0), { works: false, detail: "1/3 comes out as 0x0, not 0x3555" });
});

Deno.test("judgeTimestamps() disbelieves clocks that stand still, run ahead or ignore the work", () => {
  const wall = { wallMs: 100 };
  assert(judgeTimestamps(1, 8, wall).works);
  for (
    const [short, long, words] of [
      [0, 0, "stand still"],
      [NaN, NaN, "stand still"],
      [-1, 5, "stand still"],
      [50, 400, "run ahead"],
      [5, 5.1, "do not follow the work"],
      [0.001, 90, "do not follow the work"],
    ] as const
  ) {
    const { works, detail } = judgeTimestamps(short, long, wall);
    assert(!works && detail.includes(words), detail);
  }
});

Deno.test("the probes agree with the device they run on", async () => {
  const info = await init();
  const { device } = gpu();
  const facts = await adapterFacts({ provider: info.provider === "dawn" ? "dawn" : "native" });
  assertEquals(facts?.description, info.adapter);
  const [f16, subgroups, times] = [
    await tryF16(device),
    await trySubgroups(device),
    await tryTimestamps(device),
  ];
  assertEquals(f16.works, info.features.has("shader-f16"), f16.detail);
  assertEquals(subgroups.works, info.features.has("subgroups"), subgroups.detail);
  if (subgroups.works) {
    assert(subgroups.size >= 4 && subgroups.size <= 64);
    assert(subgroups.size <= facts!.subgroupMaxSize, `${subgroups.size} lanes`);
  }
  // Whether the clock follows the work depends on the machine's load; that it moves does not.
  assert(!/stand still|run ahead/.test(times.detail), times.detail);
  const readback = await readbackMs(device, { runs: 3 });
  assert(readback > 0 && readback < 5000, `${readback} ms`);
  const cost = await dispatchCost(device, { dispatches: 200, runs: 3 });
  assert(cost.encodeUs >= 0 && cost.totalUs >= 0 && cost.totalUs < 1e5, JSON.stringify(cost));
});

Deno.test("a probe that the device lacks the feature for says so and leaves no error behind", async () => {
  await init();
  const real = gpu().device;
  const bare = new Proxy(real, {
    get: (target, key) => {
      if (key === "features") return new Set();
      const value = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  for (const probe of [tryF16, trySubgroups, tryTimestamps]) {
    const { works, detail } = await probe(bare);
    assertEquals([works, detail], [false, "not granted"]);
  }
  real.pushErrorScope("validation");
  assertEquals(await real.popErrorScope(), null);
});
