/** Reads TypeScript sources just far enough to check imports, names and doc comments. Used by tests only. */

/** A source file. */
export interface SourceFile {
  /** Path from the repository's root, with `/`. */
  path: string;
  /** The whole text. */
  text: string;
}

/** An import, re-export, dynamic import or type import. */
export interface ImportSite {
  /** Line, from 1. */
  line: number;
  /** The specifier as written, `undefined` where it is not a plain string. */
  specifier: string | undefined;
}

/** The repository's root. */
export const ROOT: URL = new URL("../../", import.meta.url);

/** The TypeScript files under some folders of the repository, and single files, sorted by path. */
export function readSources(paths: string[], { root = ROOT }: { root?: URL } = {}): SourceFile[] {
  const files: SourceFile[] = [];
  const visit = (path: string) => {
    const url = new URL(path, root);
    if (Deno.statSync(url).isFile) {
      if (path.endsWith(".ts")) files.push({ path, text: Deno.readTextFileSync(url) });
      return;
    }
    for (const entry of Deno.readDirSync(url)) visit(`${path}/${entry.name}`);
  };
  for (const path of paths) {
    try {
      visit(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

/**
 * The text with comments and the content of strings, templates and regular expressions replaced by spaces.
 * Offsets and line ends stay where they are. Code inside `${}` stays.
 */
export function maskText(text: string): string {
  const out = text.split("");
  const blank = (from: number, to: number) => {
    for (let k = from; k < to; k++) if (out[k] !== "\n") out[k] = " ";
  };
  /** One entry an open `${`: the depth of braces inside it. */
  const templates: number[] = [];
  let last = ""; // the last significant character, to tell a regular expression from a division
  let i = 0;

  /** Blanks template text from `i` on, to the closing backtick or to a `${`. */
  const template = () => {
    const start = i;
    while (i < text.length && text[i] !== "`" && !text.startsWith("${", i)) {
      i += text[i] === "\\" ? 2 : 1;
    }
    blank(start, Math.min(i, text.length));
    if (text[i] === "`") {
      last = "`";
      i++;
    } else {
      templates.push(0);
      last = "{";
      i += 2;
    }
  };

  while (i < text.length) {
    const char = text[i] ?? "";
    const end = blockEnd(text, { at: i, last, before: out });
    if (end !== undefined) {
      // Delimiters of strings stay, so that an import's quotes are still there.
      const quoted = char === '"' || char === "'";
      blank(quoted ? i + 1 : i, quoted ? end - 1 : end);
      if (char !== "/" || (text[i + 1] !== "/" && text[i + 1] !== "*")) last = '"';
      i = end;
    } else if (char === "`") {
      i++;
      template();
    } else if (char === "}" && templates.at(-1) === 0) {
      templates.pop();
      i++;
      template();
    } else {
      if (templates.length > 0 && (char === "{" || char === "}")) {
        templates.push((templates.pop() ?? 0) + (char === "{" ? 1 : -1));
      }
      if (char.trim() !== "") last = char;
      i++;
    }
  }
  return out.join("");
}

/** The end of a comment, string or regular expression that begins at `at`; `undefined` if none does. */
function blockEnd(
  text: string,
  { at, last, before }: { at: number; last: string; before: string[] },
): number | undefined {
  const char = text[at];
  const ending = (needle: string) => {
    const end = text.indexOf(needle, at + 2);
    return end < 0 ? text.length : end;
  };
  if (text.startsWith("//", at)) return ending("\n");
  if (text.startsWith("/*", at)) return Math.min(ending("*/") + 2, text.length);
  if (char === '"' || char === "'") {
    let k = at + 1;
    while (k < text.length && text[k] !== char && text[k] !== "\n") k += text[k] === "\\" ? 2 : 1;
    return k + 1;
  }
  if (char !== "/") return undefined;
  const word = /(\w+)\s*$/.exec(before.slice(Math.max(0, at - 16), at).join(""))?.[1] ?? "";
  if (!/[(,=:[!&|?{};+>]/.test(last) && last !== "" && !/^(return|typeof|case|of|in)$/.test(word)) {
    return undefined;
  }
  let inClass = false;
  for (let k = at + 1; k < text.length && text[k] !== "\n"; k++) {
    if (text[k] === "\\") k++;
    else if (text[k] === "[") inClass = true;
    else if (text[k] === "]") inClass = false;
    else if (text[k] === "/" && !inClass) return k + 1;
  }
  return undefined;
}

/** Line number, from 1, of an offset. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

/** Every import of a file, whatever its form. */
export function importsOf(text: string): ImportSite[] {
  const masked = maskText(text);
  const sites: ImportSite[] = [];
  const forms =
    /\b(?:import|export)\b[^;"'`()]*?\bfrom\s*(["'])|\bimport\s*(["'])|\bimport\s*\(\s*(["']?)/g;
  for (const match of masked.matchAll(forms)) {
    const end = match.index + match[0].length;
    const quote = match[1] ?? match[2] ?? match[3] ?? "";
    const close = quote === "" ? -1 : masked.indexOf(quote, end);
    const specifier = close < 0 ? undefined : text.slice(end, close);
    sites.push({ line: lineAt(text, match.index), specifier });
  }
  return sites;
}

/** The repository path of a relative specifier; other specifiers come back as they are. */
export function resolveSpecifier(specifier: string, from: string): string {
  if (!specifier.startsWith("./") && !specifier.startsWith("../")) return specifier;
  const url = new URL(specifier, `file:///root/${from}`).pathname;
  return url.startsWith("/root/") ? url.slice("/root/".length) : `..${url}`;
}

/** The files that importing the entries loads, now or later, among the given ones. */
export function reachableFrom(entries: string[], files: SourceFile[]): SourceFile[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const seen = new Set<string>();
  const visit = (path: string) => {
    const file = byPath.get(path);
    if (file === undefined || seen.has(path)) return;
    seen.add(path);
    for (const { specifier } of importsOf(file.text)) {
      if (specifier !== undefined) visit(resolveSpecifier(specifier, path));
    }
  };
  entries.forEach(visit);
  return files.filter((file) => seen.has(file.path));
}
