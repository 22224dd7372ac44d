/** @file Puts a report together: one HTML page with everything inside. */

import { REPORT_CLIENT } from "./report_client.ts";
import { type Html, markup, raw, renderSection } from "./report_sections.ts";
import { REPORT_STYLE } from "./report_style.ts";
import type { ReportData, ReportSection } from "./report.ts";

// Nothing may be loaded from anywhere, even if a text found its way past the escapes.
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; " +
  "img-src data:";

/** The page of a report. */
export async function renderReport(data: ReportData): Promise<string> {
  const uplot = await loadUplot();
  const tiles = (data.headline ?? []).map(({ label, value }) =>
    markup`<div class="tile"><dt>${label}</dt><dd>${value}</dd></div>`
  );
  const page = markup`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${data.title}</title>
<style>${raw(uplot.css)}${raw(REPORT_STYLE)}</style>
</head>
<body>
<header>
<h1>${data.title}</h1>
${data.subtitle === undefined ? "" : markup`<p class="subtitle">${data.subtitle}</p>`}
${tiles.length === 0 ? "" : markup`<dl class="tiles">${tiles}</dl>`}
</header>
<main>
${groupSections(data.sections)}
</main>
<noscript>The curves need JavaScript; their numbers are in the tables below them.</noscript>
<script>${raw(uplot.js)}</script>
<script>${raw(REPORT_CLIENT)}</script>
</body>
</html>
`;
  return page.text;
}

/** The sections; curves that follow each other share a row. */
function groupSections(sections: readonly ReportSection[]): Html[] {
  const groups: ReportSection[][] = [];
  for (const section of sections) {
    const last = groups.at(-1);
    if (section.kind === "curves" && last?.[0]?.kind === "curves") last.push(section);
    else groups.push([section]);
  }
  return groups.map((group) => {
    const rendered = group.map(renderSection);
    return group.length === 1 ? rendered[0]! : markup`<div class="row">${rendered}</div>`;
  });
}

/** The chart library's script and style; neither holds a closing tag that would end its element. */
async function loadUplot(): Promise<{ js: string; css: string }> {
  const [{ default: js }, { default: css }] = await Promise.all([
    import("npm:uplot@1.6.32/dist/uPlot.iife.min.js", { with: { type: "text" } }),
    import("npm:uplot@1.6.32/dist/uPlot.min.css", { with: { type: "text" } }),
  ]);
  return { js, css };
}
