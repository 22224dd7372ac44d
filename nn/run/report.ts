import { writeFileAtomicSync } from "./_files.ts";

/** A picture: 8 bits a channel, rows from the top, channels of a pixel side by side. */
export interface ReportPicture {
  /** Pixels in a row. */
  width: number;
  /** Rows. */
  height: number;
  /** 1 grey, 3 RGB, 4 RGBA. */
  channels: 1 | 3 | 4;
  /** `width * height * channels` values. */
  data: Uint8Array;
}

/** What every section has. */
interface BaseSection {
  title: string;
  /** A sentence or two below the title. */
  note?: string;
  /** Shows only the title until it is opened. */
  collapsed?: boolean;
}

/** Lines over a common x. Sections of curves in a row stand side by side where there is room. */
export interface CurvesSection extends BaseSection {
  kind: "curves";
  /** Ascending values, e.g. epochs. */
  x: { label: string; values: readonly number[] };
  /** What y is; the unit `%` and others stand behind each value. */
  y: { label: string; unit?: string };
  /** One line each; a gap where a value is null or not finite. */
  series: readonly { name: string; values: readonly (number | null)[] }[];
}

/** Pictures in a grid. */
export interface ImagesSection extends BaseSection {
  kind: "images";
  /** Whether the page offers to show the wrong ones alone, where there are some. Default true. */
  filter?: boolean;
  images: readonly {
    picture: ReportPicture;
    /** Below the picture, e.g. the prediction. */
    caption: string;
    /** Below the caption, e.g. the truth. */
    detail?: string;
    /** Marks a wrong prediction. */
    wrong?: boolean;
  }[];
}

/** A confusion matrix, readable up to about 50 classes. */
export interface ConfusionSection extends BaseSection {
  kind: "confusion";
  /** Names of the C classes. */
  classes: readonly string[];
  /** C rows (truth) of C counts (prediction). */
  counts: readonly (readonly number[])[];
}

/** A table; without columns and with two cells a row, a list of names and values. */
export interface TableSection extends BaseSection {
  kind: "table";
  columns?: readonly string[];
  rows: readonly (readonly (string | number | boolean | null | undefined)[])[];
}

/** Text as it is, e.g. the architecture of a model. */
export interface TextSection extends BaseSection {
  kind: "text";
  text: string;
  /** Keeps spaces and line ends, in a fixed-width font. */
  preformatted?: boolean;
}

/** A part of a report. */
export type ReportSection =
  | CurvesSection
  | ImagesSection
  | ConfusionSection
  | TableSection
  | TextSection;

/** The content of a report. */
export interface ReportData {
  title: string;
  /** Below the title: preset, seed, adapter, date, … */
  subtitle?: string;
  /** The few numbers that matter most. */
  headline?: readonly { label: string; value: string }[];
  sections: readonly ReportSection[];
}

/**
 * A report as one HTML page that needs no network: interactive curves (uPlot), pictures, confusion
 * matrix and tables, in light and dark. All text is escaped.
 *
 * @throws {TypeError} A picture, a matrix or a line has the wrong number of values.
 *
 * @example
 * ```ts
 * const html = await buildReport({
 *   title: "Letters",
 *   headline: [{ label: "Test top-1", value: "97.2 %" }],
 *   sections: [{
 *     kind: "curves",
 *     title: "Loss",
 *     x: { label: "Epoch", values: [1, 2, 3] },
 *     y: { label: "Loss" },
 *     series: [{ name: "Training", values: [3.1, 2.2, 1.4] }],
 *   }],
 * });
 * ```
 */
export async function buildReport(data: ReportData): Promise<string> {
  const { renderReport } = await import("./report_page.ts");
  return await renderReport(data);
}

/**
 * Writes {@linkcode buildReport}'s page to a file, in one step.
 *
 * @throws {RunError} The file cannot be written.
 */
export async function writeReport(path: string, data: ReportData): Promise<void> {
  writeFileAtomicSync(path, await buildReport(data));
}
