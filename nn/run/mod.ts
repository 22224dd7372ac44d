/**
 * @file Everything around a training run: its folder, progress, resources, TensorBoard events, report
 * and the way it is interrupted.
 */

export { boardHandler, type BoardOptions, serveBoard, type ServeBoardOptions } from "./board.ts";
export { Interrupt, type InterruptOptions, type StopSignal } from "./interrupt.ts";
export { MetricsCsv, type MetricValue } from "./metrics_csv.ts";
export { ProgressBar, type ProgressOptions, type ProgressUpdate } from "./progress.ts";
export {
  formatResources,
  type GpuMemory,
  ResourceMonitor,
  type ResourceMonitorOptions,
  type ResourceSample,
} from "./resources.ts";
export {
  buildReport,
  type ConfusionSection,
  type CurvesSection,
  type ImagesSection,
  type ReportData,
  type ReportPicture,
  type ReportSection,
  type TableSection,
  type TextSection,
  writeReport,
} from "./report.ts";
export { RunError } from "./run_error.ts";
export {
  type CreateRunOptions,
  readConfig,
  type RunConfig,
  RunFolder,
  type RunFolderOptions,
  type RunSummary,
  type StoredRunConfig,
} from "./run_folder.ts";
export { EventWriter, type EventWriterOptions } from "./tensorboard.ts";
export { stdoutTerminal, type Terminal } from "./terminal.ts";
