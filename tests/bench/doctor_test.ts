import { assert, assertEquals } from "@std/assert";
import { advice, bytesText, doctor, formatSections, worstError, wrap } from "../../bench/doctor.ts";
import { ROOT } from "../helpers/source.ts";

Deno.test("formatSections() aligns names, values and remarks over all sections", () => {
  const sections = [
    { title: "One", rows: [["a", "yes", "first"], ["longer name", "a value"]] },
    { title: "Two", rows: [["b", "12 ms", "second"]] },
  ] as const;
  assertEquals(formatSections(sections), [
    "One",
    "  a            yes    first",
    "  longer name  a value",
    "",
    "Two",
    "  b            12 ms  second",
  ]);
  const coloured = formatSections(sections, { colours: true });
  assert(coloured[1]!.includes("\x1b[32myes"));
  // deno-lint-ignore no-control-regex
  const plain = coloured.map((line) => line.replace(/\x1b\[\d+m/g, ""));
  assertEquals(plain, formatSections(sections));
});

Deno.test("bytesText() gives whole numbers", () => {
  assertEquals([0, 1000, 32768, 1 << 27, 2 ** 31 - 1, 2 ** 31 - 4].map(bytesText), [
    "0 B",
    "1000 B",
    "32 KiB",
    "128 MiB",
    "2 GiB",
    "2048 MiB",
  ]);
});

Deno.test("wrap() breaks between words", () => {
  assertEquals(wrap("one two three four", 12), ["- one two", "  three four"]);
  assertEquals(wrap("unbreakable", 5), ["-", "  unbreakable"]);
});

Deno.test("advice() fits what was found", () => {
  const good = { software: false, backend: "Vulkan", buffers: 48, os: "linux" } as const;
  const text = (found: Parameters<typeof advice>[0]) => advice(found).join("\n");
  assertEquals(advice(good), []);
  assert(text({ ...good, software: true }).startsWith("This adapter is software"));
  assert(!text({ ...good, software: true }).includes("Mesa is older"));
  assert(text({ ...good, software: true, buffers: 32 }).includes("Its Mesa is older than 25"));
  const dawn = { ...good, software: true, buffers: 16, provider: "dawn" } as const;
  assert(!text(dawn).includes("Mesa is older"));
  assert(
    text({ ...good, backend: "OpenGL" }).startsWith("Deno reached this adapter through OpenGL"),
  );
  assert(!text({ ...good, software: true, os: "darwin" }).includes("vulkaninfo"));
});

Deno.test("worstError() sees one wrong element", () => {
  const n = 8;
  const a = Float32Array.from({ length: n * n }, (_, i) => 0.5 + (i % 7) / 7);
  const c = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) c[i * n + j]! += a[i * n + k]! * a[k * n + j]!;
    }
  }
  assert(worstError(n, { a, b: a, c }) <= 1);
  c[13]! *= 1.0001;
  assert(worstError(n, { a, b: a, c }) > 1);
  c[13] = NaN;
  assertEquals(worstError(n, { a, b: a, c }), Infinity);
});

Deno.test("doctor() prints every section and ends well", async () => {
  const lines: string[] = [];
  assertEquals(await doctor((line) => lines.push(line)), 0, lines.join("\n"));
  const text = lines.join("\n");
  for (const title of ["Adapter", "Limits", "Features, by trying", "Speed"]) {
    assert(lines.includes(title), `${title} is missing:\n${text}`);
  }
  assert(
    /^ {2}matmul 512 +\d+(\.\d)? GFLOP\/s +\d+\.\d\d ms in f32; equal to float64/m.test(text),
    text,
  );
  assert(!text.includes("\x1b"), "colours without a terminal");
});

Deno.test({
  name: "doctor without an adapter, or with an argument, is one line and status 1",
  ignore: Deno.build.os !== "linux", // elsewhere a driver cannot be hidden by variables
  fn: async () => {
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command("deno", {
        args: ["run", "--no-prompt", "--quiet", new URL("bench/doctor.ts", ROOT).href, ...args],
        env: {
          VK_DRIVER_FILES: "/none",
          VK_ICD_FILENAMES: "/none",
          __EGL_VENDOR_LIBRARY_FILENAMES: "/none",
        },
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      return { code, stdout: text(stdout), stderr: text(stderr) };
    };
    const without = await run();
    assertEquals(without.code, 1, without.stdout + without.stderr);
    assert(/^No WebGPU adapter was found: [^\n]+\n$/.test(without.stdout + without.stderr));
    const unknown = await run("--fast");
    assertEquals(
      [unknown.code, unknown.stderr],
      [1, "error: Unknown flag --fast: --help lists all\n"],
    );
  },
});
