/** @file What every report page ends with. */

import type { ReportSection } from "../nn/run/mod.ts";

/** The configuration and the architecture, folded away. */
export function closingSections(
  options: Readonly<Record<string, unknown>>,
  architecture: string,
): ReportSection[] {
  return [
    {
      kind: "table",
      title: "Configuration",
      collapsed: true,
      rows: Object.entries(options).map(([name, value]) => [name, String(value)]),
    },
    {
      kind: "text",
      title: "Architecture",
      collapsed: true,
      preformatted: true,
      text: architecture,
    },
  ];
}
