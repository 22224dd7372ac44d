/** One small shader run on its own, to see what a device makes of it. */

import { BufferUsage, MapMode } from "./flags.ts";

/** Runs a shader on 64 threads over `words` u32; gives them afterwards, or the first line of its error. */
export async function runShader(
  device: GPUDevice,
  code: string,
  words: Uint32Array<ArrayBuffer>,
): Promise<Uint32Array | string> {
  const usage = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
  const buffer = device.createBuffer({ label: "probe", size: words.byteLength, usage });
  const staging = device.createBuffer({
    label: "probe readback",
    size: words.byteLength,
    usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
  });
  device.pushErrorScope("validation");
  let open = true;
  try {
    const module = device.createShaderModule({ label: "probe", code });
    const pipeline = device.createComputePipeline({
      label: "probe",
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    device.queue.writeBuffer(buffer, 0, words);
    const group = device.createBindGroup({
      label: "probe",
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer } }],
    });
    const encoder = device.createCommandEncoder({ label: "probe" });
    const pass = encoder.beginComputePass({ label: "probe" });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, words.byteLength);
    device.queue.submit([encoder.finish()]);
    open = false;
    const error = await device.popErrorScope();
    if (error) return firstLine(error.message);
    await staging.mapAsync(MapMode.READ);
    return new Uint32Array(staging.getMappedRange().slice(0));
  } finally {
    // A scope left open would take the errors of all that follows.
    if (open) await device.popErrorScope();
    buffer.destroy();
    staging.destroy();
  }
}

function firstLine(message: string): string {
  const lines = message.trim().split("\n").map((l) => l.trim()).filter((l) => l !== "");
  // naga wraps its reason: the last "Caused by" or "error:" line says most.
  return lines.findLast((l) => /^(error|shader)/i.test(l)) ?? lines[0] ?? "no reason given";
}

/** Binding and entry point of such a shader, up to its body. */
export const HEAD: string = `@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_id) lid: vec3<u32>) {`;
