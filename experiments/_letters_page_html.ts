/** @file The page of `deno task train:browser` and its style; its content is made by the script. */

/** What the page shows, apart from its head. */
export const LETTERS_BODY = `<header>
<h1>Letters</h1>
<p class="subtitle" id="status" role="status">Opening the GPU …</p>
<dl class="tiles">
<div class="tile"><dt>Steps</dt><dd id="steps">0</dd></div>
<div class="tile"><dt>Steps a second</dt><dd id="rate">–</dd></div>
<div class="tile"><dt>Training loss</dt><dd id="loss">–</dd></div>
<div class="tile"><dt>Read right, of letters it has not learnt from</dt><dd id="right">–</dd></div>
</dl>
<p class="tools">
<button id="pause" type="button" disabled>Pause</button>
<button id="save" type="button" disabled>Save the weights</button>
</p>
</header>
<main>
<div class="row">
<section>
<h2>Draw a letter</h2>
<div class="draw">
<canvas id="paper" width="280" height="280" aria-label="Draw a capital letter here"></canvas>
<table id="guesses" aria-live="polite"></table>
</div>
<p class="tools"><button id="clear" type="button">Clear</button></p>
<p class="note">A capital letter, as large as you like; it is read anew while the net learns.</p>
</section>
<section class="chart">
<h2>Training loss</h2>
<div class="plot" id="chart"></div>
</section>
</div>
<section>
<h2>Letters it has not learnt from</h2>
<div class="gallery" id="gallery" style="--cell: 3.4rem"></div>
</section>
</main>
`;

/** The page. */
export const LETTERS_PAGE = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Letters</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="uplot.css">
<link rel="stylesheet" href="page.css">
<script src="page.js" type="module"></script>
</head>
<body>
${LETTERS_BODY}<noscript>The page needs JavaScript.</noscript>
</body>
</html>
`;

/** What the page has besides the style of reports. */
export const LETTERS_STYLE = `
.tools { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 0; }
.tools button {
  padding: .35rem .9rem; border: 1px solid var(--line); border-radius: .4rem; font: inherit;
  background: var(--card); color: var(--text); cursor: pointer;
}
.tools button:hover:enabled { border-color: var(--accent); }
.tools button:disabled { color: var(--muted); cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.draw { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: start; }
#paper {
  width: 17.5rem; height: 17.5rem; border: 1px solid var(--line); border-radius: .4rem;
  background: #000; touch-action: none; cursor: crosshair;
}
#guesses { flex: 1 1 10rem; font-size: 1rem; }
#guesses th { width: 1.6rem; text-align: left; font-size: 1.15rem; }
#guesses td { padding: .2rem 0; }
#guesses td:last-child { width: 4.4rem; text-align: right; color: var(--muted); }
#guesses meter { width: 100%; height: .9rem; }
.note { margin-top: .6rem; }
.gallery canvas { display: block; width: 100%; border-radius: .25rem; image-rendering: pixelated; }
.subtitle.error { color: var(--bad); white-space: pre-wrap; }
`;
