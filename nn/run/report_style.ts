/** Style of a report. Colours are variables, so that the dark scheme and the charts share them. */
export const REPORT_STYLE = `
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --text: #1d2025; --muted: #636973; --line: #e2e2de;
  --accent: #2360c4; --hit: #2f7de1; --miss: #d9480f; --bad: #c92a2a; --on-heat: #ffffff;
  --s1: #2360c4; --s2: #d9601f; --s3: #0f8a6c; --s4: #8348c0; --s5: #9c7410; --s6: #b8326f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131518; --card: #1b1e23; --text: #e6e8eb; --muted: #9aa2ad; --line: #30353d;
    --accent: #7fb0ff; --hit: #3d7fd6; --miss: #e8703a; --bad: #ff7b72; --on-heat: #ffffff;
    --s1: #6ea8ff; --s2: #ff9b5e; --s3: #45cfa8; --s4: #c698ff; --s5: #e0bb55; --s6: #ff8ab8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: clamp(1rem, 4vw, 2.5rem) clamp(.75rem, 3vw, 2rem); max-width: 76rem;
  background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1 { margin: 0; font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; letter-spacing: -.015em; }
h2 { margin: 0 0 .5rem; font-size: 1.1rem; }
p { margin: 0 0 .75rem; max-width: 44rem; }
.subtitle { margin: .4rem 0 0; color: var(--muted); overflow-wrap: anywhere; }
.note, .readout, noscript { color: var(--muted); font-size: .9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; }
.tile {
  flex: 1 1 8rem; padding: .7rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem;
}
.tile dt { color: var(--muted); font-size: .82rem; }
.tile dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
main > * { margin-top: 1rem; }
section {
  min-width: 0; padding: 1rem clamp(.75rem, 2.5vw, 1.25rem); background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem;
}
.row { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
summary { cursor: pointer; }
summary h2 { display: inline; }
details[open] > summary { margin-bottom: .6rem; }
.numbers { margin-top: .5rem; color: var(--muted); font-size: .85rem; }
.scroll { overflow-x: auto; }
.numbers .scroll { max-height: 24rem; overflow-y: auto; }

.chart { margin: 0; }
.plot { min-height: 18.5rem; }
.u-legend { color: var(--text); font-size: .82rem; font-variant-numeric: tabular-nums; }
.u-legend th { font-weight: 500; }
.u-legend .u-marker { border-radius: 2px; }
.u-select { background: color-mix(in srgb, var(--accent) 18%, transparent); }

table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
section.table table, .numbers table { min-width: min(100%, 24rem); }
.scroll th, .scroll td { padding: .3rem .7rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: var(--card); font-weight: 600; }
.number { white-space: nowrap; }
.pairs { display: grid; gap: 0 1.75rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); margin: 0; }
.pairs > div {
  display: flex; justify-content: space-between; gap: 1rem; padding: .28rem 0;
  border-bottom: 1px solid var(--line); font-size: .88rem;
}
.pairs dt { color: var(--muted); }
.pairs dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre {
  margin: 0; overflow-x: auto; font: .8rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
}

.filter { display: inline-flex; gap: .4rem; align-items: center; margin-bottom: .6rem; font-size: .9rem; }
.filter:has(:checked) + .gallery figure:not(.wrong) { display: none; }
.gallery { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(var(--cell), 1fr)); align-items: start; }
.gallery figure {
  margin: 0; padding: .3rem; border: 2px solid transparent; border-radius: .4rem; text-align: center;
}
.gallery figure.wrong { border-color: var(--bad); }
.gallery img { display: block; width: 100%; height: auto; border-radius: .25rem; image-rendering: pixelated; }
.gallery figcaption { margin-top: .15rem; font-weight: 600; line-height: 1.25; overflow-wrap: anywhere; }
.gallery figure.wrong figcaption { color: var(--bad); }
.gallery figure.wrong figcaption::before { content: "✗ "; }
.gallery small { display: block; color: var(--muted); font-weight: 400; font-size: .75rem; }

.matrix { width: 100%; font-size: .72rem; }
.scroll .matrix th, .scroll .matrix td { padding: 0 .1rem; border: 0; text-align: center; }
.matrix tbody td, .matrix thead th { min-width: 1.9rem; height: 1.75rem; }
.scroll .matrix tbody td { border: 1px solid color-mix(in srgb, var(--line) 60%, transparent); }
.scroll .matrix tbody th { position: sticky; left: 0; padding: 0 .5rem 0 .1rem; background: var(--card); }
.matrix .hit { background: color-mix(in oklab, var(--hit) calc(var(--heat) * 100%), var(--card)); }
.matrix .miss { background: color-mix(in oklab, var(--miss) calc(12% + var(--heat) * 88%), var(--card)); font-weight: 600; }
.matrix .strong { color: var(--on-heat); }
.matrix td:focus-visible, .matrix td[title]:hover { outline: 2px solid var(--text); outline-offset: -2px; }
.scroll .matrix .recall { padding: 0 .4rem; border-color: transparent; color: var(--muted); text-align: right; white-space: nowrap; }
`;
