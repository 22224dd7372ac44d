/** Sizes of a convolution and of its window, as the kernels take them. */

/** How a window slides, as pairs [height, width]. */
export interface Window {
  readonly stride: readonly [number, number];
  /** Zeros above and to the left. */
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly groups: number;
}

/** Sizes of a convolution of x [B, C·groups, H, W] by w [O·groups, C, KH, KW] to y [.., OH, OW]. */
export interface Sizes {
  readonly B: number;
  readonly C: number;
  readonly O: number;
  readonly H: number;
  readonly W: number;
  readonly OH: number;
  readonly OW: number;
  readonly KH: number;
  readonly KW: number;
}

interface Shapes {
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly y: readonly number[];
}

/** The sizes of three arrays. */
export function sizesOf({ x, w, y }: Shapes, { groups }: Window): Sizes {
  const [B, , H, W] = x as [number, number, number, number];
  const [O, C, KH, KW] = w as [number, number, number, number];
  return { B, C, O: O / groups, H, W, OH: y[2]!, OW: y[3]!, KH, KW };
}

/** Params that kernels of windows share. */
export function windowParams(s: Sizes, at: Window): Record<string, number> {
  return {
    C: s.C,
    O: s.O,
    groups: at.groups,
    H: s.H,
    W: s.W,
    OH: s.OH,
    OW: s.OW,
    KH: s.KH,
    KW: s.KW,
    stride_h: at.stride[0],
    stride_w: at.stride[1],
    pad_h: at.padding[0],
    pad_w: at.padding[1],
    dil_h: at.dilation[0],
    dil_w: at.dilation[1],
  };
}

/** Distance of the taps that meet one position, and of the outputs they meet it in. */
export function tapSteps(
  stride: number,
  dilation: number,
): { tapStep: number; outputStep: number } {
  let [a, b] = [stride, dilation];
  while (b > 0) [a, b] = [b, a % b];
  return { tapStep: stride / a, outputStep: dilation / a };
}
