/** Rows, images and volumes at another size. */

import { checkOneOf, checkOptions, given } from "./arguments.ts";
import { interpolate as interpolateOp } from "./ops/image.ts";
import { show } from "./shape.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Options of {@linkcode interpolate}: either `size` or `scaleFactor`. */
export interface InterpolateOptions {
  /** Output size: of all dimensions, or [height, width], for rows [length], for volumes [depth, height, width]. */
  size?: number | readonly number[];
  /** Outputs to an input pixel, likewise; the size is ⌊H · factor⌋. */
  scaleFactor?: number | readonly number[];
  /** Default `linear` for rows, `bilinear` for images, `trilinear` for volumes. */
  mode?: "nearest" | "linear" | "bilinear" | "trilinear";
  /** Widens the filter when shrinking images, as PIL and torchvision do; default false. */
  antialias?: boolean;
  /** Whether the outermost pixels' centres stay, instead of the image's edges; default false. */
  alignCorners?: boolean;
}

/** By number of dimensions, what weights neighbours along all of them. */
const LINEAR = { 3: "linear", 4: "bilinear", 5: "trilinear" } as const;

/** How images are resized. */
interface Resizing {
  readonly mode: "nearest" | "bilinear";
  readonly antialias: boolean;
  readonly alignCorners: boolean;
}

/**
 * x [N, C, H, W], rows [N, C, L] or volumes [N, C, D, H, W] at another size. With both antialias and alignCorners the
 * widened filter is centred where aligned corners put it; PyTorch centres it at (i + ½) · scale, which moves the
 * corners.
 *
 * @throws {TypeError} if neither or both of `size` and `scaleFactor` are given, or options do not fit
 * @throws {RangeError} if an image would have no pixels
 *
 * @example
 * ```ts
 * import { init, interpolate, zeros } from "../mod.ts";
 * await init();
 * const x = zeros([1, 3, 5, 8]);
 * console.log(interpolate(x, { size: [10, 4] }).shape); // [1, 3, 10, 4]
 * console.log(interpolate(x, { scaleFactor: 2, mode: "nearest" }).shape); // [1, 3, 10, 16]
 * ```
 */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  checkOptions("interpolate", options, "interpolate(x, { scaleFactor: 2 })");
  const { size, scaleFactor, antialias = false, alignCorners = false } = options;
  const linear = LINEAR[x.ndim as keyof typeof LINEAR];
  if (linear === undefined) {
    throw new TypeError(
      `Cannot interpolate ${show(x.shape)}: it must be [N, C, H, W], [N, C, L] or [N, C, D, H, W]`,
    );
  }
  const { mode = linear } = options;
  checkOneOf("interpolate", { mode }, ["nearest", linear]);
  if ((size === undefined) === (scaleFactor === undefined)) {
    throw new TypeError(
      `Cannot interpolate ${show(x.shape)}: give either size or scaleFactor, not ` +
        (size === undefined ? "neither" : "both"),
    );
  }
  if (antialias && x.ndim !== 4) {
    throw new TypeError(
      `Cannot interpolate ${show(x.shape)} with antialias: it is for images only`,
    );
  }
  const places = x.shape.slice(2);
  let sizes: readonly number[], steps: readonly number[] | undefined;
  if (size !== undefined) sizes = along("size", size, places.length);
  else {
    const factors = along("scaleFactor", scaleFactor!, places.length);
    if (!factors.every((factor) => factor > 0)) {
      throw new RangeError(
        `Cannot interpolate with scaleFactor ${given(scaleFactor)}: it must be above 0`,
      );
    }
    sizes = places.map((s, d) => Math.floor(s * factors[d]!));
    steps = factors.map((factor) => 1 / factor);
  }
  const how: Resizing = {
    mode: mode === "nearest" ? mode : "bilinear",
    antialias,
    alignCorners,
  };
  if (places.length === 2) return resize(x, { sizes, steps, how });
  if (places.length === 1) {
    const row = { sizes: [1, ...sizes], steps: steps && [1, ...steps], how };
    return resize(x.unsqueeze(-2), row).squeeze(-2);
  }
  const [N, C, D, H, W] = x.shape as [number, number, number, number, number];
  const [OD, OH, OW] = sizes as [number, number, number];
  const planes = resize(x.reshape(N, C * D, H, W), {
    sizes: [OH, OW],
    steps: steps?.slice(1),
    how,
  });
  // Along the depth, as columns of images that stay as wide as they are.
  const columns = planes.reshape(N, C, D, OH * OW);
  return resize(columns, { sizes: [OD, OH * OW], steps: steps && [steps[0]!, 1], how })
    .reshape(N, C, OD, OH, OW);
}

function resize(
  x: Tensor,
  { sizes, steps, how }: {
    sizes: readonly number[];
    steps: readonly number[] | undefined;
    how: Resizing;
  },
): Tensor {
  const [size, own] = [sizes, steps] as [[number, number], [number, number] | undefined];
  return apply(interpolateOp, [x], { ...how, size, steps: own })[0]!;
}

/** A number for each dimension, of one for all or a list of them. */
function along(name: string, value: number | readonly number[], dims: number): number[] {
  if (typeof value === "number") return Array<number>(dims).fill(value);
  if (Array.isArray(value) && value.length === dims) return [...value];
  const names = [["length"], ["height", "width"], ["depth", "height", "width"]][dims - 1]!;
  throw new TypeError(
    `Cannot interpolate with ${name} ${given(value)}: it must be a number or [${names.join(", ")}]`,
  );
}
