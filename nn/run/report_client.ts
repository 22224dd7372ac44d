/** Script of a report: draws the charts in the page's colours and reads out the confusion matrix. */
export const REPORT_CLIENT = `"use strict";
(() => {
  const DASHES = [[], [], [6, 4], [2, 3], [10, 4, 2, 4], [1, 2]];
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function format(value, unit) {
    if (value === null || value === undefined) return "–";
    const text = Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2)
      : String(Number(value.toPrecision(5)));
    return unit ? text + " " + unit : text;
  }

  // Room for the longest tick text, at about 7 pixels a character.
  function widthOf(_, texts) {
    return 20 + 7 * Math.max(3, ...(texts ?? []).map((text) => text.length));
  }

  function draw(chart) {
    const { x, y, series } = JSON.parse(chart.querySelector("script").textContent);
    const plot = chart.querySelector(".plot");
    plot.replaceChildren();
    const whole = x.values.every(Number.isInteger);
    const axis = {
      stroke: colour("muted"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line"), width: 1 },
      font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif",
    };
    const few = x.values.length <= 40;
    return new uPlot({
      width: plot.clientWidth,
      height: 260,
      cursor: { sync: { key: x.label, scales: ["x", null] }, points: { size: 8 } },
      scales: { x: { time: false } },
      axes: [
        // A count has no ticks between its steps.
        { ...axis, label: x.label, labelSize: 20, size: 36, ...(whole && {
          incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((e) => n * 10 ** e)).sort((a, b) => a - b),
        }) },
        { ...axis, size: widthOf, values: (_, ticks) => ticks.map((tick) => format(tick, y.unit)) },
      ],
      series: [
        { label: x.label, value: (_, value) => format(value) },
        ...series.map(({ name }, i) => ({
          label: name,
          stroke: colour("s" + (1 + i % 6)),
          width: 2,
          dash: DASHES[i % DASHES.length],
          points: { show: few, size: 5, fill: colour("s" + (1 + i % 6)) },
          value: (_, value) => format(value, y.unit),
        })),
      ],
    }, [x.values, ...series.map(({ values }) => values)], plot);
  }

  for (const chart of document.querySelectorAll(".chart")) {
    let shown;
    const redraw = () => {
      shown?.destroy();
      shown = draw(chart);
    };
    const plot = chart.querySelector(".plot");
    // Also the first drawing: a chart in a closed section has no width before it is opened.
    new ResizeObserver(() => {
      if (plot.clientWidth === 0) return;
      if (shown) shown.setSize({ width: plot.clientWidth, height: 260 });
      else redraw();
    }).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && redraw());
  }

  for (const section of document.querySelectorAll("section.confusion")) {
    const readout = section.querySelector(".readout");
    const show = ({ target }) => {
      if (target.title) readout.textContent = target.title;
    };
    section.addEventListener("pointerover", show);
    section.addEventListener("focusin", show);
  }
})();
`;
