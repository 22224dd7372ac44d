import { cpuUsage } from "node:process";
import { assert, assertEquals } from "@std/assert";
import { formatResources, ResourceMonitor, type ResourceSample } from "../../../nn/run/mod.ts";

const MIB = 1024 ** 2;

Deno.test("formatResources() gives the lines of the notebooks' monitor", () => {
  const sample: ResourceSample = {
    cpuPercent: 87.25,
    cores: 8,
    processBytes: 512.5 * MIB,
    memoryPercent: 33.333,
    gpuLiveBytes: 218.04 * MIB,
    gpuPeakBytes: 1000 * MIB,
    adapter: "llvmpipe (LLVM 19.1.4, 256 bits)",
  };
  assertEquals(formatResources(sample), [
    "GPU 0: llvmpipe (LLVM 19.1.4, 256 bits)",
    "  Memory Usage: 218.0 MiB (Held by the engine) / 1000.0 MiB (Peak)",
    "CPU Usage: 87.3% (This process, of 8 cores)",
    "Memory Usage: 33.3%, 512.5 MiB by this process",
    "-".repeat(60),
  ]);
});

Deno.test("formatResources() says n/a for what cannot be known", () => {
  const sample = new ResourceMonitor().sample();
  const lines = formatResources({
    ...sample,
    cpuPercent: undefined,
    processBytes: undefined,
    memoryPercent: undefined,
  });
  assertEquals(lines.slice(0, 2), [
    "GPU 0: n/a",
    "  Memory Usage: n/a (Held by the engine) / n/a (Peak)",
  ]);
  assertEquals(lines[3], "Memory Usage: n/a, n/a by this process");
});

Deno.test("ResourceMonitor measures CPU use between two samples", () => {
  let time = 0;
  const monitor = new ResourceMonitor({
    adapter: "a",
    gpuMemory: () => ({ liveBytes: 1, pooledBytes: 2, peakBytes: 3 }),
    now: () => time,
  });
  const start = cpuUsage();
  let sum = 0;
  for (let ms = 0; ms < 60;) {
    for (let i = 0; i < 1e5; i++) sum += Math.sin(sum);
    const { user, system } = cpuUsage(start);
    ms = (user + system) / 1000;
  }
  time = 600;
  const busy = monitor.sample();
  assertEquals([busy.adapter, busy.gpuLiveBytes, busy.gpuPeakBytes], ["a", 1, 3]);
  assert(busy.cpuPercent! >= 10 / busy.cores, `busy: ${busy.cpuPercent}`); // 60 of 600 ms
  assert(busy.cpuPercent! <= 100);
  time = 600_600;
  const idle = monitor.sample();
  assert(idle.cpuPercent! < 5 / idle.cores, `idle: ${idle.cpuPercent}`);
  assert(idle.processBytes! > MIB);
});

Deno.test("ResourceMonitor leaves CPU use out when no time has passed", () => {
  assertEquals(new ResourceMonitor({ now: () => 5 }).sample().cpuPercent, undefined);
});

Deno.test({
  name: "ResourceMonitor does not ask for the machine's memory without permission",
  permissions: { sys: false },
  fn() {
    assertEquals(new ResourceMonitor().sample().memoryPercent, undefined);
  },
});

Deno.test({
  name: "ResourceMonitor reads the machine's memory with permission",
  permissions: { sys: ["systemMemoryInfo"] },
  fn() {
    const percent = new ResourceMonitor().sample().memoryPercent;
    assert(percent !== undefined && percent > 0 && percent < 100, `${percent}`);
  },
});
