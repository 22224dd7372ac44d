/** @file The page of the board and its style; its content is made by the script. */

/** The page. */
export const BOARD_PAGE = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runs</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/uplot.css">
<link rel="stylesheet" href="/board.css">
<script src="/uplot.js" defer></script>
<script src="/board.js" defer></script>
</head>
<body class="board">
<header>
<h1>Runs</h1>
<p class="subtitle" id="status" role="status">Reading the runs …</p>
</header>
<main>
<section class="runs">
<div class="tools">
<input id="filter" type="search" placeholder="Filter by name or experiment" aria-label="Filter runs">
<label><input id="differing" type="checkbox" checked> Only options that differ</label>
<button id="none" type="button">Clear selection</button>
</div>
<div class="scroll"><table id="table"></table></div>
</section>
<div class="row" id="charts"></div>
</main>
<noscript>The board needs JavaScript.</noscript>
</body>
</html>
`;

/** What the board has besides the style of reports. */
export const BOARD_STYLE = `
body.board { max-width: 100rem; }
.tools { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; margin-bottom: .75rem; font-size: .9rem; }
.tools input[type="search"] { flex: 0 1 20rem; min-width: 0; }
.tools input[type="search"], .tools button {
  padding: .35rem .7rem; border: 1px solid var(--line); border-radius: .4rem; font: inherit;
  background: var(--page); color: var(--text);
}
.tools button { cursor: pointer; }
.tools button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.runs .scroll { max-height: 26rem; overflow-y: auto; }
.runs table { width: 100%; white-space: nowrap; }
.runs .scroll th, .runs .scroll td { padding-right: 1rem; }
.runs td.value, .runs th.value { text-align: right; }
.runs thead th { vertical-align: bottom; }
.runs th.value { max-width: 8rem; white-space: normal; }
.runs td { max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.runs td.error { max-width: none; }
.runs tbody tr:hover { background: color-mix(in srgb, var(--accent) 7%, transparent); }
.runs .pick { width: 3.4rem; }
.runs .pick label { display: flex; gap: .45rem; align-items: center; cursor: pointer; }
.swatch { width: 1.5rem; height: 0; border-top: 3px solid transparent; }
.runs a { color: var(--accent); }
.runs .group { color: var(--muted); font-weight: 500; }
.error { color: var(--bad); white-space: normal; }
.empty { margin: 1rem 0; color: var(--muted); }
.board .plot { min-height: 16rem; }
.board .u-legend { text-align: left; }
`;
