/** House rules that neither `deno fmt` nor `deno lint` checks. */
import { assert, assertEquals } from "@std/assert";
import { lineAt, maskText, reachableFrom, readSources, ROOT } from "./helpers/source.ts";
import type { SourceFile } from "./helpers/source.ts";

/** Past this many lines a file is more than one idea. Tests may be longer. */
const MAX_LINES = 500;

/** Files that break the limits on length and names. */
function fileBreaches(files: SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.replace(/\n$/, "").split("\n").length;
    const name = path.split("/").at(-1) ?? "";
    return [
      ...(lines > MAX_LINES && !path.startsWith("tests/")
        ? [`${path} has ${lines} lines: at most ${MAX_LINES}`]
        : []),
      ...(name === "index.ts" ? [`${path}: the file of a folder is mod.ts`] : []),
      ...(/[^a-z0-9_.]/.test(name) ? [`${path}: file names are snake_case`] : []),
    ];
  });
}

/** Exported declarations without a doc comment just above. An overload is covered by the first one. */
function missingDocs({ path, text }: SourceFile): string[] {
  const masked = maskText(text);
  const declaration =
    /^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(?:function\*?|class|const|let|interface|type|enum) (\w+)/gm;
  const documented = new Set<string>();
  return [...masked.matchAll(declaration)].flatMap((match) => {
    const name = match[1] ?? "";
    const above = text.slice(0, match.index).trimEnd();
    if (above.endsWith("*/") || documented.has(name)) {
      documented.add(name);
      return [];
    }
    return [`${path}:${lineAt(text, match.index)} exports ${name} without a doc comment`];
  });
}

Deno.test("files are short enough and well named", () => {
  const files = readSources([
    "mod.ts",
    "setup.ts",
    "engine",
    "nn",
    "experiments",
    "bench",
    "tests",
  ]);
  assert(files.length > 20, `only ${files.length} files found`);
  assertEquals(fileBreaches(files), []);
});

Deno.test("everything exported under mod.ts has a doc comment", () => {
  const files = readSources(["mod.ts", "engine", "nn"]);
  const reached = reachableFrom(["mod.ts"], files);
  assert(reached.length > 10, `mod.ts reaches only ${reached.length} files`);
  assertEquals(reached.flatMap(missingDocs), []);
});

Deno.test("no task asks for every permission", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  assert(Object.keys(tasks).length > 0);
  for (const [name, task] of Object.entries(tasks)) {
    const command = typeof task === "string" ? task : (task as { command?: string }).command ?? "";
    assert(!/(^|\s)(-A|--allow-all)(\s|$)/.test(command), `task ${name} asks for every permission`);
  }
});

Deno.test("the style checks find what they look for", () => {
  const long = "\n".repeat(MAX_LINES + 1);
  assertEquals(fileBreaches([{ path: "nn/a.ts", text: long }]).length, 1);
  assertEquals(fileBreaches([{ path: "nn/a.ts", text: "\n".repeat(MAX_LINES) }]), []);
  assertEquals(fileBreaches([{ path: "tests/a_test.ts", text: long }]), []);
  assertEquals(fileBreaches([{ path: "nn/index.ts", text: "" }]).length, 1);
  assertEquals(fileBreaches([{ path: "nn/batchNorm.ts", text: "" }]).length, 1);

  const docs = (text: string) => missingDocs({ path: "nn/a.ts", text });
  assertEquals(docs("/** A. */\nexport function a() {}\n\n/** B. */\nexport const b = 1;\n"), []);
  assertEquals(docs("/** A. */\nexport function a(x: 1): 1;\nexport function a(x: 2): 2;\n"), []);
  assertEquals(docs("// A.\nexport async function a() {}\n"), [
    "nn/a.ts:2 exports a without a doc comment",
  ]);
  assertEquals(docs("const x = 1;\nexport abstract class A {}\n").length, 1);
  assertEquals(docs("export type A = 1;\nexport interface B {}\n").length, 2);
});
