/** Script of the board: fetches the runs every few seconds and shows those that are picked. */
export const BOARD_CLIENT = `"use strict";
(() => {
  const PERIOD = 3000, SHOWN = 6, COLOURS = 6;
  const DASHES = [[], [7, 4], [2, 3], [10, 4, 2, 4]];
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const state = { runs: [], text: "", picked: new Set(), slots: new Map(), charts: new Map() };
  const settled = new Set(); // runs whose first pick was made

  function format(value) {
    if (value === null || value === undefined) return "–";
    return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2)
      : String(Number(value.toPrecision(5)));
  }

  function duration(seconds) {
    if (seconds === undefined) return "";
    const h = Math.floor(seconds / 3600), m = Math.floor(seconds / 60) % 60, s = Math.floor(seconds % 60);
    return (h > 0 ? h + ":" + String(m).padStart(2, "0") : m) + ":" + String(s).padStart(2, "0");
  }

  // All text goes in as text: names and options are whatever the folders hold.
  function element(tag, options = {}, ...children) {
    const { className, ...rest } = options;
    const made = document.createElement(tag);
    if (className) made.className = className;
    for (const [name, value] of Object.entries(rest)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // A run keeps its colour and dash while it is picked.
  function slotOf(name) {
    if (!state.slots.has(name)) {
      const taken = new Set(state.slots.values());
      let slot = 0;
      while (taken.has(slot)) slot++;
      state.slots.set(name, slot);
    }
    return state.slots.get(name);
  }
  const strokeOf = (name) => colour("s" + (1 + slotOf(name) % COLOURS));
  const dashOf = (name) => DASHES[Math.floor(slotOf(name) / COLOURS) % DASHES.length];

  function pick(name, on) {
    if (on) state.picked.add(name);
    else {
      state.picked.delete(name);
      state.slots.delete(name);
    }
  }

  function visible() {
    const words = byId("filter").value.toLowerCase().split(/\\s+/).filter(Boolean);
    return state.runs.filter((run) => {
      const text = (run.name + " " + run.experiment + " " + (run.preset ?? "")).toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  function optionNames(runs) {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.options)))]
      .filter((name) => name !== "seed"); // it has a column already
    if (!byId("differing").checked) return names;
    // Options of one experiment say nothing about another.
    const kinds = Map.groupBy(runs, (run) => run.experiment);
    return names.filter((name) =>
      [...kinds.values()].some((kind) => new Set(kind.map((run) => run.options[name])).size > 1)
    );
  }

  function drawTable() {
    const runs = visible();
    const options = optionNames(runs);
    const scores = [...new Set(runs.flatMap((run) => Object.keys(run.scores)))];
    const lasts = [...new Set(runs.flatMap((run) => run.metrics.slice(1).map(([name]) => name)))]
      .filter((name) => /loss|acc|map|recall|bleu/i.test(name)).slice(0, 8);
    const header = element("tr", {},
      element("th", { className: "pick" }, ""),
      ...["Run", "Experiment", "Preset", "Seed"].map((name) => element("th", { scope: "col" }, name)),
      ...options.map((name) => element("th", { scope: "col", className: "group" }, name)),
      ...["Epochs", "Time"].map((name) => element("th", { scope: "col", className: "value" }, name)),
      ...scores.map((name) => element("th", { scope: "col", className: "value" }, name)),
      ...lasts.map((name) => element("th", { scope: "col", className: "value", title: "Last epoch" }, name)),
    );
    const columns = header.childElementCount;
    const body = runs.map((run) => {
      const on = state.picked.has(run.name);
      const box = element("input", { type: "checkbox", "aria-label": "Show " + run.name });
      box.checked = on;
      box.addEventListener("change", () => {
        pick(run.name, box.checked);
        draw();
      });
      const swatch = element("span", { className: "swatch" });
      if (on) {
        swatch.style.borderTopColor = strokeOf(run.name);
        swatch.style.borderTopStyle = dashOf(run.name).length > 0 ? "dashed" : "solid";
      }
      const href = "/runs/" + encodeURIComponent(run.name) + "/report.html";
      const name = run.report
        ? element("a", { href, target: "_blank", rel: "noopener" }, run.name)
        : document.createTextNode(run.name);
      const cell = (text, className = "") => element("td", { className }, text);
      const count = run.metrics[0]?.[1].length ?? 0;
      return element("tr", {},
        element("td", { className: "pick" }, element("label", {}, box, swatch)),
        element("td", { title: [run.created, run.adapter].filter(Boolean).join(", ") }, name),
        ...(run.error ? [element("td", { className: "error", colspan: columns - 2 }, run.error)] : [
        cell(run.experiment), cell(run.preset ?? ""), cell(String(run.seed ?? "")),
        ...options.map((option) => cell(run.options[option] ?? "")),
        cell(String(count), "value"), cell(duration(run.seconds), "value"),
        ...scores.map((score) => cell(score in run.scores ? format(run.scores[score]) : "", "value")),
        ...lasts.map((column) => {
          const values = run.metrics.find(([name]) => name === column)?.[1] ?? [];
          return cell(values.length > 0 ? format(values.at(-1)) : "", "value");
        }),
        ]),
      );
    });
    byId("table").replaceChildren(element("thead", {}, header), element("tbody", {}, ...body));
  }

  // The curves of one column: x is every epoch of any run.
  function curves(column, runs) {
    const shown = runs.filter((run) => run.metrics.some(([name]) => name === column));
    const epochs = [...new Set(shown.flatMap((run) => run.metrics[0][1].filter((x) => x !== null)))];
    epochs.sort((a, b) => a - b);
    const at = new Map(epochs.map((epoch, i) => [epoch, i]));
    const lines = shown.map((run) => {
      const line = epochs.map(() => null);
      const values = run.metrics.find(([name]) => name === column)[1];
      run.metrics[0][1].forEach((epoch, i) => {
        if (epoch !== null) line[at.get(epoch)] = values[i] ?? null;
      });
      return line;
    });
    return { names: shown.map((run) => run.name), data: [epochs, ...lines] };
  }

  function widthOf(_, texts) {
    return 20 + 7 * Math.max(3, ...(texts ?? []).map((text) => text.length));
  }

  function makePlot(place, { names, data, label }) {
    const axis = {
      stroke: colour("muted"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line"), width: 1 },
      font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif",
    };
    const few = data[0].length <= 40;
    place.replaceChildren();
    return new uPlot({
      width: Math.max(200, place.clientWidth),
      height: 240,
      cursor: { sync: { key: "epoch", scales: ["x", null] }, points: { size: 7 } },
      scales: { x: { time: false } },
      axes: [
        { ...axis, label, labelSize: 20, size: 36, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e4, 1e5] },
        { ...axis, size: widthOf, values: (_, ticks) => ticks.map(format) },
      ],
      series: [
        { label, value: (_, value) => format(value) },
        ...names.map((name) => ({
          label: name,
          stroke: strokeOf(name),
          width: 2,
          dash: dashOf(name),
          spanGaps: false,
          points: { show: few, size: 5, fill: strokeOf(name) },
          value: (_, value) => format(value),
        })),
      ],
    }, data, place);
  }

  function drawCharts(again) {
    const runs = state.runs.filter((run) => state.picked.has(run.name) && run.metrics.length > 1);
    const columns = [...new Set(runs.flatMap((run) => run.metrics.slice(1).map(([name]) => name)))];
    for (const [column, chart] of state.charts) {
      if (columns.includes(column)) continue;
      chart.plot?.destroy();
      chart.section.remove();
      state.charts.delete(column);
    }
    for (const column of columns) {
      if (!state.charts.has(column)) {
        const place = element("div", { className: "plot", role: "img", "aria-label": column });
        const section = element("section", {}, element("h2", {}, column), place);
        const chart = { section, place, plot: undefined, key: "" };
        new ResizeObserver(() => {
          // Not at once: the legend may grow by it, which is observed again.
          requestAnimationFrame(() => {
            if (place.clientWidth > 0) chart.plot?.setSize({ width: place.clientWidth, height: 240 });
          });
        }).observe(place);
        state.charts.set(column, chart);
      }
      const chart = state.charts.get(column);
      byId("charts").append(chart.section);
      const { names, data } = curves(column, runs);
      const key = JSON.stringify(names.map((name) => [name, slotOf(name)]));
      if (!again && chart.plot && chart.key === key) {
        chart.plot.setData(data);
        continue;
      }
      chart.plot?.destroy();
      const label = runs[0].metrics[0][0];
      chart.plot = makePlot(chart.place, { names, data, label });
      chart.key = key;
    }
    const empty = byId("charts").querySelector(".empty");
    if (columns.length > 0) empty?.remove();
    else if (!empty) byId("charts").append(element("p", { className: "empty" }, "No run is picked that has curves."));
  }

  function draw(again = false) {
    drawTable();
    drawCharts(again);
  }

  // Runs that are new are picked while few are.
  function settle() {
    for (const run of state.runs) {
      if (settled.has(run.name)) continue;
      settled.add(run.name);
      const first = state.runs.find(({ name }) => state.picked.has(name)) ?? run;
      if (state.picked.size < SHOWN && run.experiment === first.experiment) pick(run.name, true);
    }
    const names = new Set(state.runs.map(({ name }) => name));
    for (const name of [...state.picked]) if (!names.has(name)) pick(name, false);
  }

  async function refresh() {
    try {
      const response = await fetch("/api/runs");
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      if (text !== state.text) {
        state.text = text;
        state.runs = JSON.parse(text);
        settle();
        draw();
      }
      const count = state.runs.length;
      byId("status").textContent = count === 0
        ? "No runs yet: deno task train makes one"
        : count + (count === 1 ? " run" : " runs") + ", read again every " + PERIOD / 1000 + " seconds";
    } catch (error) {
      byId("status").textContent = "The board cannot be read: " + error.message;
    }
    setTimeout(refresh, PERIOD);
  }

  byId("filter").addEventListener("input", drawTable);
  byId("differing").addEventListener("change", drawTable);
  byId("none").addEventListener("click", () => {
    for (const name of [...state.picked]) pick(name, false);
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
  refresh();
})();
`;
