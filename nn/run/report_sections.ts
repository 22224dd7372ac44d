/** @file The HTML of each kind of section. */

import { escape } from "npm:deno-std@1.4.0/html/entities.js";
import { PNG } from "npm:pngjs@7.0.0";
import type {
  ConfusionSection,
  CurvesSection,
  ImagesSection,
  ReportPicture,
  ReportSection,
  TableSection,
  TextSection,
} from "./report.ts";

/** Width of a picture's cell in CSS pixels; small pictures are enlarged. */
const MIN_CELL = 72;
const MAX_CELL = 256;
/** Least width of a cell under whose picture more than {@linkcode LABEL} characters stand. */
const SENTENCE_CELL = 168;
const LABEL = 20;

/** Text that is HTML already. */
export class Html {
  /** The HTML. */
  readonly text: string;

  /** @param text HTML that needs no more escapes. */
  constructor(text: string) {
    this.text = text;
  }
}

/** What a hole of {@linkcode markup} takes: text is escaped, HTML is not, a list is joined. */
export type HtmlHole = Html | string | number | readonly HtmlHole[];

/** A template whose holes are escaped unless they are HTML. */
export function markup(strings: TemplateStringsArray, ...holes: readonly HtmlHole[]): Html {
  return new Html(strings.map((part, i) => part + holeText(holes[i])).join(""));
}

/** Text of our own that is HTML, CSS or script. */
export function raw(text: string): Html {
  return new Html(text);
}

function holeText(hole: HtmlHole | undefined): string {
  if (hole === undefined) return "";
  if (hole instanceof Html) return hole.text;
  if (Array.isArray(hole)) return hole.map(holeText).join("");
  return escape(String(hole));
}

/** The HTML of one section. */
export function renderSection(section: ReportSection): Html {
  const { title, note, collapsed, kind } = section;
  const intro = note === undefined ? "" : markup`<p class="note">${note}</p>`;
  const content = markup`${intro}${renderContent(section)}`;
  const heading = markup`<h2>${title}</h2>`;
  const body = collapsed
    ? markup`<details><summary>${heading}</summary>${content}</details>`
    : markup`${heading}${content}`;
  return markup`<section class="${kind}">${body}</section>\n`;
}

function renderContent(section: ReportSection): Html {
  switch (section.kind) {
    case "curves":
      return renderCurves(section);
    case "images":
      return renderImages(section);
    case "confusion":
      return renderConfusion(section);
    case "table":
      return renderTable(section);
    case "text":
      return renderText(section);
  }
}

/** A place for the chart, its data, and the same numbers as a table. */
function renderCurves({ title, x, y, series }: CurvesSection): Html {
  for (const { name, values } of series) {
    if (values.length === x.values.length) continue;
    throw new TypeError(
      `Cannot draw "${name}" in "${title}": it has ${values.length} values, ` +
        `${x.label} has ${x.values.length}`,
    );
  }
  // `<` could end the element; JSON knows it by its code as well.
  const data = JSON.stringify({ x, y, series }).replaceAll("<", "\\u003c");
  const unit = y.unit === undefined ? "" : ` (${y.unit})`;
  const numbers = renderTable({
    kind: "table",
    columns: [x.label, ...series.map(({ name }) => `${name}${unit}`)],
    rows: x.values.map((value, i) => [value, ...series.map(({ values }) => values[i])]),
  });
  const label = `${title}: ${y.label} by ${x.label}, numbers below`;
  return markup`<figure class="chart">
<script type="application/json">${raw(data)}</script>
<div class="plot" role="img" aria-label="${label}"></div>
</figure>
<details class="numbers"><summary>Numbers</summary>${numbers}</details>`;
}

function renderImages({ images, filter: offered = true }: ImagesSection): Html {
  const wrong = images.filter((image) => image.wrong).length;
  const filter = !offered || wrong === 0 ? "" : markup`<label class="filter"><input type="checkbox">
Only the wrong ones (${wrong} of ${images.length})</label>`;
  const figures = images.map(({ picture, caption, detail, wrong }) => {
    const text = detail === undefined ? caption : `${caption}, ${detail}`;
    const below = detail === undefined ? "" : markup`<small>${detail}</small>`;
    const { width, height } = picture;
    const image = markup`<img src="${pngUri(picture)}" alt="${text}"
width="${width}" height="${height}">`;
    const mark = wrong ? raw(' class="wrong"') : "";
    return markup`<figure${mark}>${image}<figcaption>${caption}${below}</figcaption></figure>`;
  });
  const widest = Math.max(...images.map(({ picture }) => picture.width));
  const longest = Math.max(
    ...images.map(({ caption, detail = "" }) => Math.max(caption.length, detail.length)),
  );
  const least = longest > LABEL ? SENTENCE_CELL : MIN_CELL;
  const cell = Math.min(MAX_CELL, Math.max(least, widest));
  return markup`${filter}<div class="gallery" style="--cell:${cell}px">${figures}</div>`;
}

/** A picture as a `data:` URI of a PNG. */
function pngUri({ width, height, channels, data }: ReportPicture): string {
  if (data.length !== width * height * channels) {
    throw new TypeError(
      `Cannot show a picture of ${data.length} values: ` +
        `${width}x${height} with ${channels} channels needs ${width * height * channels}`,
    );
  }
  const inputColorType = { 1: 0, 3: 2, 4: 6 }[channels];
  const options = { inputColorType, colorType: inputColorType, inputHasAlpha: channels === 4 };
  const png = Object.assign(new PNG({ width, height }), { data });
  const bytes: Uint8Array = PNG.sync.write(png, options);
  return `data:image/png;base64,${new Uint8Array(bytes).toBase64()}`;
}

/** A table whose cells are coloured by their share of the row, with the words of each in its title. */
function renderConfusion({ title, classes, counts }: ConfusionSection): Html {
  const size = classes.length;
  if (counts.length !== size || counts.some((row) => row.length !== size)) {
    throw new TypeError(
      `Cannot draw "${title}": ${size} classes need ${size} rows of ${size} counts`,
    );
  }
  const head = classes.map((name) => markup`<th scope="col">${name}</th>`);
  const rows = counts.map((row, truth) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count, guess) => {
      if (count === 0) return markup`<td></td>`;
      const share = count / total;
      // The root keeps single mistakes visible.
      const heat = (truth === guess ? share : Math.sqrt(share)).toFixed(3);
      const words = `True ${classes[truth]}, read as ${classes[guess]}: ` +
        `${count} of ${total} (${percent(share)})`;
      const kind = `${truth === guess ? "hit" : "miss"}${Number(heat) > 0.5 ? " strong" : ""}`;
      return markup`<td class="${kind}" style="--heat:${heat}" tabindex="0"
title="${words}">${count}</td>`;
    });
    const recall = total === 0 ? "–" : percent(row[truth]! / total);
    const name = markup`<th scope="row">${classes[truth]!}</th>`;
    return markup`<tr>${name}${cells}<td class="recall">${recall}</td></tr>\n`;
  });
  const hint = "Rows are the truth, columns the prediction. Point at a cell to read it.";
  return markup`<p class="readout" aria-live="polite">${hint}</p>
<div class="scroll"><table class="matrix">
<thead><tr><td></td>${head}<th scope="col">Recall</th></tr></thead>
<tbody>${rows}</tbody>
</table></div>`;
}

function renderTable({ columns, rows }: Omit<TableSection, "title">): Html {
  if (columns === undefined && rows.every((row) => row.length === 2)) {
    const pairs = rows.map(([name, value]) =>
      markup`<div><dt>${cellText(name)}</dt><dd>${cellText(value)}</dd></div>\n`
    );
    return markup`<dl class="pairs">${pairs}</dl>`;
  }
  const head = (columns ?? []).map((name) => markup`<th scope="col">${name}</th>`);
  const body = rows.map((row) => {
    const cells = row.map((cell) => {
      const kind = typeof cell === "number" ? "number" : "text";
      return markup`<td class="${kind}">${cellText(cell)}</td>`;
    });
    return markup`<tr>${cells}</tr>\n`;
  });
  const top = columns === undefined ? "" : markup`<thead><tr>${head}</tr></thead>`;
  return markup`<div class="scroll"><table>${top}<tbody>${body}</tbody></table></div>`;
}

function renderText({ text, preformatted }: TextSection): Html {
  if (preformatted) return markup`<pre>${text}</pre>`;
  return markup`${text.split(/\n\s*\n/).map((part) => markup`<p>${part}</p>`)}`;
}

function cellText(value: string | number | boolean | null | undefined): string {
  if (value === null || value === undefined) return "–";
  // Six figures are enough to read; the files hold the rest.
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  return String(value);
}

function percent(share: number): string {
  return `${Number((100 * share).toFixed(1))} %`;
}
