/**
 * Imports point downward only: experiments -> nn -> engine -> engine/ops -> engine/kernels, engine/gpu.
 * The rules are the table below; a message names file, line, import or word, and rule.
 */
import { assert, assertEquals } from "@std/assert";
import {
  importsOf,
  lineAt,
  maskText,
  reachableFrom,
  readSources,
  resolveSpecifier,
  type SourceFile,
} from "./helpers/source.ts";

/** A rule about the imports or the words of some files. */
interface Rule {
  /** What the rule asks for, as the message says it. */
  rule: string;
  /** The files it holds for, by path. */
  files: RegExp;
  /** Whether it holds only for files that importing `mod.ts` (or an experiment as well) loads. */
  reachable?: "mod" | "entries";
  /** Every import has to match one of these: repository paths, or specifiers that are not relative. */
  allow?: RegExp[];
  /** No import may match one of these. */
  deny?: RegExp[];
  /** Words that code (not comments, not strings) may not have. */
  words?: RegExp;
  /** Whether `words` are forbidden outside all braces only: roughly, code that runs on import. */
  topLevel?: boolean;
}

const NPM = /^npm:/;

const RULES: Rule[] = [
  {
    rule: "engine/kernels imports kernels and dtype.ts only",
    files: /^engine\/kernels\//,
    allow: [/^engine\/kernels\//, /^engine\/dtype\.ts$/],
  },
  {
    rule: "engine/gpu knows no tensor and no op: of the kernels it knows what a kernel is",
    files: /^engine\/gpu\//,
    allow: [
      /^engine\/gpu\//,
      /^engine\/kernels\/kernel\.ts$/,
      /^engine\/(arguments|dtype|errors|shape)\.ts$/,
    ],
  },
  {
    rule: "engine/ops never imports tensor.ts, autograd.ts or the public engine/mod.ts",
    files: /^engine\/ops\//,
    deny: [/^engine\/(tensor|autograd|mod)\.ts$/],
  },
  {
    rule: "GPU objects are touched in engine/gpu only",
    files: /^(engine\/(?!gpu\/)|nn\/|experiments\/)/,
    words: new RegExp(
      "\\b(GPU(?!PowerPreference\\b)[A-Z]\\w*|navigator\\.gpu|requestAdapter|requestDevice|" +
        "create(Buffer|BindGroup\\w*|ShaderModule|\\w*Pipeline(Async)?|PipelineLayout|CommandEncoder|QuerySet)|" +
        "beginComputePass|dispatchWorkgroups\\w*|mapAsync|getMappedRange|onSubmittedWorkDone|writeBuffer)\\b",
    ),
  },
  {
    rule: "engine imports engine only: no layer above it, no dependency",
    files: /^engine\//,
    allow: [/^engine\//],
  },
  {
    rule: "nn imports nn, the files directly in engine, and npm packages",
    files: /^nn\//,
    allow: [/^nn\//, /^engine\/[^/]+\.ts$/, /^deno\.json$/, NPM],
  },
  {
    rule:
      "experiments import experiments, nn, the files directly in engine, mod.ts and npm packages",
    files: /^experiments\//,
    allow: [/^experiments\//, /^nn\//, /^engine\/[^/]+\.ts$/, /^mod\.ts$/, NPM],
  },
  {
    rule: "a remote importer has no import map: relative paths with extension, or npm:name@1.2.3",
    files: /./,
    reachable: "entries",
    allow: [
      /^[^:]+\/[^:]+\.ts$/,
      /^mod\.ts$/,
      /^deno\.json$/,
      /^npm:(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+(\/[\w./-]+)?$/,
    ],
  },
  {
    rule: "importing mod.ts needs no permission: Deno is touched inside functions only",
    files: /./,
    reachable: "mod",
    words: /\bDeno\.[a-z]\w*|\bnew\s+Deno\.\w+|\bDeno\s*\[/,
    topLevel: true,
  },
];

/** A sentence for every breach of the rules. */
function violations(files: SourceFile[]): string[] {
  const experiments = files.map(({ path }) => path).filter((path) => /^experiments\//.test(path));
  const reached = {
    mod: new Set(reachableFrom(["mod.ts"], files)),
    entries: new Set(reachableFrom(["mod.ts", ...experiments], files)),
  };
  return files.flatMap((file) =>
    RULES.filter((rule) =>
      rule.files.test(file.path) && (!rule.reachable || reached[rule.reachable].has(file))
    ).flatMap((rule) => [...importBreaches(rule, file), ...wordBreaches(rule, file)])
  );
}

/** It imports the module that a data set names, by URL. */
const IMPORTS_BY_URL = "nn/data/loader_worker.ts";

/**
 * May import a computed name: Deno would download the package, 132 MB, for every importer of mod.ts if
 * the name were literal. A test of its own checks that the name is pinned.
 */
const COMPUTES_A_NAME = "engine/gpu/dawn.ts";

/** The imports of a file that a rule forbids. */
function importBreaches(rule: Rule, file: SourceFile): string[] {
  if (rule.allow === undefined && rule.deny === undefined) return [];
  return importsOf(file.text).flatMap(({ line, specifier }) => {
    if (specifier === undefined && file.path === COMPUTES_A_NAME) return [];
    if (specifier === undefined && file.path === IMPORTS_BY_URL) return [];
    const target = specifier === undefined ? "" : resolveSpecifier(specifier, file.path);
    const allowed = rule.allow?.some((pattern) => pattern.test(target)) ?? true;
    const denied = rule.deny?.some((pattern) => pattern.test(target)) ?? false;
    if (allowed && !denied) return [];
    return [`${file.path}:${line} imports ${specifier ?? "a computed name"}: ${rule.rule}`];
  });
}

/** The words of a file that a rule forbids. */
function wordBreaches(rule: Rule, file: SourceFile): string[] {
  if (rule.words === undefined) return [];
  const masked = maskText(file.text);
  const code = rule.topLevel ? outsideBraces(masked) : masked;
  return [...code.matchAll(new RegExp(rule.words, "g"))].map((match) =>
    `${file.path}:${lineAt(code, match.index)} says ${match[0]}: ${rule.rule}`
  );
}

/** Masked code with all that stands inside braces replaced by spaces. */
function outsideBraces(masked: string): string {
  let depth = 0;
  return masked.split("").map((char) => {
    if (char === "}") depth--;
    const kept = depth === 0 || char === "\n" ? char : " ";
    if (char === "{") depth++;
    return kept;
  }).join("");
}

/** The repository's own files below the top level, and mod.ts. */
function ownFiles(): SourceFile[] {
  return readSources(["mod.ts", "engine", "nn", "experiments"]);
}

Deno.test("imports point downward only", () => {
  const files = ownFiles();
  assert(files.length > 20, `only ${files.length} files found`);
  assertEquals(violations(files), []);
});

Deno.test("every layering rule holds for some file of the repository", () => {
  const files = ownFiles();
  for (const { rule, files: pattern } of RULES) {
    assert(files.some(({ path }) => pattern.test(path)), `no file falls under: ${rule}`);
  }
});

Deno.test("the layering check finds each kind of breach", () => {
  for (
    const [path, text, found] of [
      ["engine/kernels/a.ts", `import { x } from "../shape.ts";`, "engine/kernels imports"],
      [
        "engine/kernels/a.ts",
        `import type { Tensor } from "../tensor.ts";`,
        "engine/kernels imports",
      ],
      ["engine/gpu/a.ts", `import { x } from "../array.ts";`, "engine/gpu knows"],
      ["engine/gpu/a.ts", `import { x } from "../kernels/matmul.ts";`, "engine/gpu knows"],
      ["engine/ops/a.ts", `import type {\n  Tensor,\n} from "../tensor.ts";`, "engine/ops never"],
      ["engine/ops/a.ts", `export * from "../autograd.ts";`, "engine/ops never"],
      ["engine/ops/a.ts", `let b: GPUBuffer;`, "GPU objects"],
      ["engine/tensor.ts", `device.createBuffer({});`, "GPU objects"],
      ["nn/a.ts", `pass.dispatchWorkgroups(1);`, "GPU objects"],
      ["experiments/a.ts", `await navigator.gpu.requestAdapter();`, "GPU objects"],
      ["engine/a.ts", `import { x } from "../nn/mod.ts";`, "engine imports engine only"],
      ["engine/a.ts", `import { x } from "npm:fflate@0.8.3";`, "engine imports engine only"],
      ["engine/a.ts", `await import("node:fs");`, "engine imports engine only"],
      ["engine/a.ts", `type X = import("@std/assert").X;`, "engine imports engine only"],
      ["nn/a.ts", `import { x } from "../engine/kernels/pool.ts";`, "nn imports"],
      ["nn/a/b.ts", `import { x } from "../../engine/gpu/device.ts";`, "nn imports"],
      ["nn/a.ts", `import { x } from "../engine/ops/conv.ts";`, "nn imports"],
      ["nn/a.ts", `import "../experiments/letters.ts";`, "nn imports"],
      ["experiments/a.ts", `import { x } from "../bench/mod.ts";`, "experiments import"],
      ["experiments/a.ts", `import { x } from "../engine/ops/conv.ts";`, "experiments import"],
      ["experiments/a.ts", `import { x } from "@std/assert";`, "experiments import"],
    ] as [string, string, string][]
  ) {
    const messages = violations([{ path, text }]);
    assert(
      messages.some((message) => message.includes(found) && message.startsWith(`${path}:1 `)),
      `${path}: ${text}\n${messages.join("\n")}`,
    );
  }
});

Deno.test("the layering check follows mod.ts and the experiments to what they load", () => {
  const mod = { path: "mod.ts", text: `\nexport * from "./nn/mod.ts";` };
  const check = (text: string) => violations([mod, { path: "nn/mod.ts", text }]);
  const map =
    "a remote importer has no import map: relative paths with extension, or npm:name@1.2.3";
  const deno = "importing mod.ts needs no permission: Deno is touched inside functions only";

  assertEquals(check(`import { zip } from "npm:fflate@0.8.3";`), []);
  assertEquals(check(`\nimport { zip } from "npm:fflate@^0.8";`), [
    `nn/mod.ts:2 imports npm:fflate@^0.8: ${map}`,
  ]);
  assertEquals(check(`import x from "./x.js";`), [`nn/mod.ts:1 imports ./x.js: ${map}`]);
  assertEquals(
    check(`const name = f();\nawait import(name);`).at(-1),
    [
      `nn/mod.ts:2 imports a computed name: ${map}`,
    ][0],
  );

  assertEquals(check(`const home = parse(Deno.env.get("HOME"));`), [
    `nn/mod.ts:1 says Deno.env: ${deno}`,
  ]);
  assertEquals(
    check(`let file: Deno.FsFile;\nfunction f(file: Deno.FsFile) {\n  Deno.env.get("HOME");\n}`),
    [],
  );
  // Nothing loads this one.
  assertEquals(violations([mod, { path: "nn/b.ts", text: `Deno.cwd();` }]), []);
});

Deno.test("the layering check reads code, not comments, strings, templates or patterns", () => {
  const text = [
    `// import { x } from "../nn/mod.ts";`,
    `/** @example import { x } from "https://example.com/mod.ts"; let b: GPUBuffer; */`,
    `const a = 'import "../nn/mod.ts"' + "it's GPUBuffer";`,
    'const b = `import { x } from "../nn/mod.ts"; ${f({ a: `GPUBuffer ${1}` })} GPUBuffer`;',
    `const c = /["'\`/]GPUBuffer/.test(a) ? 4 / 2 / 1 : 0;`,
    `import { y } from "./shape.ts";`,
  ].join("\n");
  assertEquals(violations([{ path: "engine/a.ts", text }]), []);
  assertEquals(importsOf(text), [{ line: 6, specifier: "./shape.ts" }]);
  const code = violations([{ path: "engine/a.ts", text: "const d = `${pass.mapAsync()}`;" }]);
  assertEquals(code.length, 1);
});
