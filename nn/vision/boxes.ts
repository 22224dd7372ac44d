/** @file Boxes on pictures. The ops on boxes are the engine's; see engine/functions_boxes.ts. */

import { checkOptions } from "../../engine/arguments.ts";
import { forInk, textSize } from "./_font.ts";

export {
  boxIou,
  multiboxDetection,
  type MultiboxDetectionOptions,
  multiboxPrior,
  type MultiboxPriorOptions,
  multiboxTarget,
  type MultiboxTargetOptions,
  type MultiboxTargets,
  nms,
  type NmsOptions,
} from "../../engine/mod.ts";

/** A picture on the host: rows of RGB or RGBA bytes. */
export interface ByteImage {
  /** Pixels in a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** 3 or 4 bytes a pixel. */
  readonly data: Uint8Array;
}

/** Options of {@linkcode drawBoxes}. */
export interface DrawBoxesOptions {
  /** RGB of the outlines, taken in turn; default six colours that differ. */
  colors?: readonly (readonly [number, number, number])[];
  /** Pixels of an outline, drawn inward; default 2. */
  thickness?: number;
  /**
   * A text for each box, white on its colour above the upper left corner, or inside where there is no
   * room above. ASCII; an empty text draws nothing. Default none.
   */
  labels?: readonly string[];
  /** Pixels of a dot of the letters, which are 7 dots high; default 1 for each 250 rows, at least 1. */
  labelScale?: number;
}

const COLORS: readonly (readonly [number, number, number])[] = [
  [230, 60, 50],
  [60, 160, 60],
  [50, 110, 220],
  [240, 170, 30],
  [150, 70, 180],
  [20, 170, 180],
];

/**
 * A copy of the image with the outlines of boxes [xmin, ymin, xmax, ymax], in fractions of the image, and
 * their labels. What lies outside is cut off; alpha becomes opaque on what is drawn.
 *
 * @throws {TypeError} If the bytes are not width · height · 3 or 4, or a box has not four numbers.
 */
export function drawBoxes(
  image: ByteImage,
  boxes: readonly ArrayLike<number>[],
  options: DrawBoxesOptions = {},
): ByteImage {
  checkOptions("drawBoxes", options, "drawBoxes(image, boxes, { colors })");
  const { width, height, data } = image;
  const { colors = COLORS, thickness = 2, labels = [] } = options;
  const channels = data.length / (width * height);
  if (channels !== 3 && channels !== 4) {
    throw new TypeError(
      `Cannot draw on ${data.length} bytes of an image ${width} x ${height}: it needs 3 or 4 a pixel`,
    );
  }
  const bytes = data.slice();
  const dot = (x: number, y: number, color: readonly number[]) => {
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    for (let c = 0; c < channels; c++) bytes[(y * width + x) * channels + c] = color[c] ?? 255;
  };
  const scale = Math.max(1, Math.round(options.labelScale ?? height / 250));
  for (const [i, box] of boxes.entries()) {
    if (box.length !== 4 || !Array.from(box).every(Number.isFinite)) {
      throw new TypeError(
        `Cannot draw box ${i} of [${Array.from(box).join(", ")}]: it must have four finite numbers`,
      );
    }
    const color = colors[i % colors.length]!;
    // Pixels whose centres the box covers, at least one.
    const left = Math.round(box[0]! * width);
    const top = Math.round(box[1]! * height);
    const right = Math.max(Math.round(box[2]! * width), left + 1);
    const bottom = Math.max(Math.round(box[3]! * height), top + 1);
    for (let y = Math.max(top, 0); y < Math.min(bottom, height); y++) {
      const edgeRow = y < top + thickness || y >= bottom - thickness;
      for (let x = Math.max(left, 0); x < Math.min(right, width); x++) {
        if (!edgeRow && x >= left + thickness && x < right - thickness) continue;
        dot(x, y, color);
      }
    }
    const text = labels[i] ?? "";
    if (text !== "") drawLabel(text, { left, top, scale, width, color, dot });
  }
  return { width, height, data: bytes };
}

/** A text on a plate of a colour, moved to where the image has room for it. */
function drawLabel(
  text: string,
  { left, top, scale, width, color, dot }: {
    left: number;
    top: number;
    scale: number;
    width: number;
    color: readonly number[];
    dot: (x: number, y: number, color: readonly number[]) => void;
  },
): void {
  const size = textSize(text);
  const [w, h] = [(size.width + 2) * scale, (size.height + 2) * scale];
  const x0 = Math.max(0, Math.min(left, width - w)), y0 = Math.max(0, top - h < 0 ? top : top - h);
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) dot(x0 + x, y0 + y, color);
  forInk(text, (column, row) => {
    for (let k = 0; k < scale * scale; k++) {
      const [x, y] = [(column + 1) * scale + k % scale, (row + 1) * scale + Math.floor(k / scale)];
      dot(x0 + x, y0 + y, [255, 255, 255]);
    }
  });
}
