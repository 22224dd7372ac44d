/**
 * WebGPU's bit flags as numbers. The globals `GPUBufferUsage` and others are not there with every
 * provider of a device, nor in every set of types. Source: https://www.w3.org/TR/webgpu/
 */

/** What a buffer may be used for. */
export const BufferUsage = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

/** How a buffer is mapped. */
export const MapMode = { READ: 0x1 } as const;

/** Which stages see a binding. */
export const ShaderStage = { COMPUTE: 0x4 } as const;
