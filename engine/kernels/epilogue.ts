/** An activation as kernels apply it to what they store. */

/** WGSL of an activation. */
export interface Epilogue {
  /** Its name, which is part of the kernel's. */
  readonly name: string;
  /** Defines `activation(x)` and its gradient `activation_gradient(x, dy)`, both of f32. */
  readonly module: string;
}

/** The functions that {@linkcode activated} calls. */
export function epilogueModule(epilogue: Epilogue | undefined): string {
  return epilogue === undefined ? "" : `${epilogue.module}
fn activation4(v: vec4<f32>) -> vec4<f32> {
  return vec4(activation(v.x), activation(v.y), activation(v.z), activation(v.w));
}`;
}

/** WGSL of `value`, an f32 or four, with the activation applied. */
export function activated(
  value: string,
  { epilogue, wide = false }: { readonly epilogue?: Epilogue; readonly wide?: boolean },
): string {
  return epilogue ? `${wide ? "activation4" : "activation"}(${value})` : value;
}
