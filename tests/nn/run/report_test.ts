import { Buffer } from "node:buffer";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { PNG } from "npm:pngjs@7.0.0";
import { buildReport, type ReportSection, RunError, writeReport } from "../../../nn/run/mod.ts";
import { demoReport } from "./report_demo.ts";

const X = { label: "Epoch", values: [1, 2] };

/** The part of the page that holds the sections. */
async function sections(...list: ReportSection[]): Promise<string> {
  const page = await buildReport({ title: "T", sections: list });
  return page.slice(page.indexOf("<main>"), page.indexOf("</main>"));
}

Deno.test("buildReport() gives one page that loads nothing", async () => {
  const page = await buildReport(demoReport());
  assert(page.startsWith("<!DOCTYPE html>"));
  assert(page.includes(`content="default-src &#39;none&#39;;`));
  // The chart library, inside the page.
  assert(page.includes("uPlot") && page.includes(".u-legend"));
  const attributes = page.replace(/<script>[^]*?<\/script>/g, "");
  for (const [, url] of attributes.matchAll(/\b(?:src|href)\s*=\s*"([^"]*)"/g)) {
    assert(url!.startsWith("data:image/png;base64,"), url);
  }
  assert(!/@import|url\(/.test(attributes), "the style loads something");
});

Deno.test("buildReport() gives the same bytes for the same data", async () => {
  assertEquals(await buildReport(demoReport()), await buildReport(demoReport()));
});

Deno.test("buildReport() escapes every text", async () => {
  const evil = `"'><script>alert(1)</script>&amp;`;
  const escaped = "&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;";
  const picture = { width: 1, height: 1, channels: 1 as const, data: new Uint8Array(1) };
  const series = [{ name: evil, values: [1, 2] }];
  const page = await buildReport({
    title: evil,
    subtitle: evil,
    headline: [{ label: evil, value: evil }],
    sections: [
      {
        kind: "curves",
        title: evil,
        note: evil,
        x: { ...X, label: evil },
        y: { label: evil, unit: evil },
        series,
      },
      { kind: "images", title: evil, images: [{ picture, caption: evil, detail: evil }] },
      { kind: "confusion", title: evil, classes: [evil], counts: [[1]] },
      { kind: "table", title: evil, columns: [evil], rows: [[evil]] },
      { kind: "table", title: evil, rows: [[evil, evil]], collapsed: true },
      { kind: "text", title: evil, text: evil },
      { kind: "text", title: evil, text: evil, preformatted: true },
    ],
  });
  assert(!page.includes("<script>alert"));
  assert(!page.replace(/<script[^]*?<\/script>/g, "").includes(`"'>`));
  // title twice, subtitle, tile 2 · curves 4 + its table 4 · images 5 · confusion 5 · tables 3 + 3 · texts 4
  const count = page.split(escaped).length - 1;
  assert(count >= 30, `only ${count} texts are there`);
  // Chart data is JSON: no `<` ends its element.
  const data = JSON.parse(/<script type="application\/json">(.*?)<\/script>/s.exec(page)![1]!);
  assertEquals(data.series, series);
});

Deno.test("buildReport() keeps every value of a curve and turns gaps into null", async () => {
  const text = await sections({
    kind: "curves",
    title: "Loss",
    x: X,
    y: { label: "Loss", unit: "%" },
    series: [{ name: "a", values: [0.1 + 0.2, NaN] }, { name: "b", values: [null, -1e-9] }],
  });
  const data = JSON.parse(/<script type="application\/json">(.*?)<\/script>/s.exec(text)![1]!);
  assertEquals(data, {
    x: X,
    y: { label: "Loss", unit: "%" },
    series: [{ name: "a", values: [0.1 + 0.2, null] }, { name: "b", values: [null, -1e-9] }],
  });
  const cells = [...text.matchAll(/<t[hd][^>]*>([^<]*)<\/t[hd]>/g)].map((match) => match[1]);
  assertEquals(cells, ["Epoch", "a (%)", "b (%)", "1", "0.3", "–", "2", "NaN", "-1e-9"]);
});

Deno.test("buildReport() puts curves that follow each other into one row", async () => {
  const curves: ReportSection = {
    kind: "curves",
    title: "C",
    x: X,
    y: { label: "y" },
    series: [],
  };
  const text: ReportSection = { kind: "text", title: "T", text: "t" };
  const page = await sections(curves, curves, text, curves);
  assertEquals(page.match(/<div class="row">/g)?.length, 1);
  assertEquals(page.match(/<section class="curves">/g)?.length, 3);
});

Deno.test("buildReport() gives small pictures with sentences below them room for words", async () => {
  const cell = async (caption: string, detail?: string) => {
    const picture = { width: 8, height: 8, channels: 1, data: new Uint8Array(64) } as const;
    const text = await sections({
      kind: "images",
      title: "Images",
      images: [{ picture, caption: "a" }, { picture, caption, detail }],
    });
    return Number(/--cell:(\d+)px/.exec(text)?.[1]);
  };
  const narrow = await cell("q", "was g");
  assert(narrow < 100, `${narrow}`);
  assert(await cell("three green circles to the left of a red square") > 2 * narrow);
  assert(await cell("q", "three green circles to the left of a red square") > 2 * narrow);
});

Deno.test("buildReport() shows pictures as PNG, in grey and in colour", async () => {
  for (const channels of [1, 3, 4] as const) {
    const data = Uint8Array.from({ length: 6 * channels }, (_, i) => (i * 37) % 256);
    const text = await sections({
      kind: "images",
      title: "Images",
      images: [{ picture: { width: 3, height: 2, channels, data }, caption: "c" }],
    });
    const base64 = /base64,([^"]+)/.exec(text)![1]!;
    const png = PNG.sync.read(Buffer.from(base64, "base64"));
    assertEquals([png.width, png.height], [3, 2]);
    for (let pixel = 0; pixel < 6; pixel++) {
      const at = (c: number) => data[pixel * channels + (channels === 1 ? 0 : c)]!;
      const expected = [at(0), at(1), at(2), channels === 4 ? at(3) : 255];
      assertEquals([...png.data.slice(4 * pixel, 4 * pixel + 4)], expected);
    }
  }
});

Deno.test("buildReport() marks wrong predictions in words, not by colour only", async () => {
  const picture = { width: 1, height: 1, channels: 1 as const, data: new Uint8Array(1) };
  const images = {
    kind: "images" as const,
    title: "Images",
    images: [
      { picture, caption: "S", detail: "true S" },
      { picture, caption: "Z", detail: "true S", wrong: true },
    ],
  };
  const text = await sections(images);
  assertEquals(text.match(/<figure class="wrong">/g)?.length, 1);
  assert(text.includes(`alt="Z, true S"`));
  assert(text.includes("Only the wrong ones (1 of 2)"));
  const plain = await sections({ ...images, filter: false });
  assertEquals(plain.match(/<figure class="wrong">/g)?.length, 1);
  assert(!plain.includes("Only the wrong ones"));
});

Deno.test("buildReport() says counts and shares of a confusion matrix", async () => {
  const text = await sections({
    kind: "confusion",
    title: "Confusion",
    classes: ["A", "B", "C"],
    counts: [[3, 1, 0], [0, 2, 0], [0, 0, 0]],
  });
  assert(text.includes(`title="True A, read as B: 1 of 4 (25 %)">1</td>`), text);
  assert(text.includes(`title="True B, read as B: 2 of 2 (100 %)">2</td>`));
  assertEquals([...text.matchAll(/class="recall">([^<]*)</g)].map((match) => match[1]), [
    "75 %",
    "100 %",
    "–",
  ]);
});

Deno.test("buildReport() throws on values that do not fit together", async () => {
  const picture = { width: 2, height: 2, channels: 3 as const, data: new Uint8Array(4) };
  for (
    const [section, message] of [
      [
        { kind: "images", title: "I", images: [{ picture, caption: "" }] },
        "Cannot show a picture of 4 values: 2x2 with 3 channels needs 12",
      ],
      [
        { kind: "confusion", title: "M", classes: ["a", "b"], counts: [[1, 0], [1]] },
        `Cannot draw "M": 2 classes need 2 rows of 2 counts`,
      ],
      [
        {
          kind: "curves",
          title: "C",
          x: X,
          y: { label: "y" },
          series: [{ name: "s", values: [1] }],
        },
        `Cannot draw "s" in "C": it has 1 values, Epoch has 2`,
      ],
    ] as [ReportSection, string][]
  ) {
    const error = await assertRejects(() => sections(section), TypeError);
    assertEquals(error.message, message);
  }
});

Deno.test("writeReport() writes the page, or says why not", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const data = { title: "T", sections: [] };
    await writeReport(`${dir}/report.html`, data);
    assertEquals(Deno.readTextFileSync(`${dir}/report.html`), await buildReport(data));
    await assertRejects(
      () => writeReport(`${dir}/missing/report.html`, data),
      RunError,
      "no such file or folder",
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
