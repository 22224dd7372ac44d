/**
 * Makes sure that WebGPU has a Vulkan driver. `deno task setup` runs it, and so do `train`, `test`, `bench`
 * and `doctor` before they start. With the argument `browser` it sees to Chromium in the same manner, for
 * `deno task test:browser`.
 *
 * - Where a driver is present, and on macOS (Metal) and Windows (Direct3D 12), it does nothing and says nothing.
 * - On Debian and Ubuntu, as root or with a `sudo` that asks for no password, it says what it installs and
 *   why, then installs Mesa's software Vulkan (lavapipe) with apt-get.
 * - Anywhere else it prints the command for that system and exits with status 1.
 *
 * Facts behind it:
 * - The presence of an adapter proves nothing: without Vulkan `navigator.gpu.requestAdapter()` still returns
 *   one, through Mesa's OpenGL. So this looks for the files that the Vulkan loader itself looks for:
 *   `libvulkan.so.1` and a driver manifest (`icd.d/*.json`).
 * - Debian 12 ships Mesa 22, whose lavapipe is 4 to 5 times slower than the Mesa 25 of `bookworm-backports`.
 *   Those backports are named to apt-get by a temporary sources list: the machine's own sources stay as they are.
 * - It may read anywhere, because `LD_LIBRARY_PATH`, `XDG_DATA_DIRS` and `VK_DRIVER_FILES` may name any folder;
 *   it writes one temporary file under `/tmp` and starts `apt-get` and `sudo` only.
 *
 * The functions from facts to a plan are pure, and tested; {@linkcode main} carries the plan out.
 *
 * @module
 */

/** The files of a machine, as much as the search for Vulkan needs. Paths are absolute. */
export interface Disk {
  /** The text of a file, or `undefined` where it cannot be read. */
  read(path: string): string | undefined;
  /** Whether a file or folder is there (links followed). */
  exists(path: string): boolean;
  /** The names in a folder, sorted; none where it cannot be read. */
  list(folder: string): string[];
}

/** What the Vulkan loader would find on this machine. */
export interface Vulkan {
  /** Path of `libvulkan.so.1`, or `undefined`. */
  loader: string | undefined;
  /** Driver manifests that the loader will read and whose library is not known to be missing. */
  drivers: string[];
  /** Driver manifests in a folder that the loader does not search (NVIDIA's container tools leave one). */
  unseen: string[];
  /** `"NAME=value"` of the variable that replaces the loader's own search, if one is set. */
  override: string | undefined;
}

/** All that a plan depends on. */
export interface Facts {
  /** `Deno.build.os`. */
  os: string;
  /** What the Vulkan loader would find. */
  vulkan: Vulkan;
  /** Text of `/etc/os-release`, empty where there is none. */
  osRelease: string;
  /** Numeric user id: 0 is root. */
  uid: number | null;
  /** Whether `sudo` is missing, asks for a password, or works at once. */
  sudo: "missing" | "password" | "free";
  /** Whether apt-get is there. */
  apt: boolean;
  /** Text of `/etc/apt/sources.list`, empty where there is none. */
  sourcesList: string;
  /** Text of all apt sources together. */
  aptSources: string;
}

/** One try at installing: `apt-get update`, then `apt-get install`. */
export interface Attempt {
  /** Printed before the try. */
  say: string;
  /** Content of a sources list to use instead of `/etc/apt/sources.list`, if one is needed. */
  sources?: string;
  /** Arguments of the `apt-get install` call, after the options shared by every call. */
  install: string[];
}

/** What to do. */
export type Plan =
  | { kind: "nothing"; note?: string }
  | { kind: "install"; asRoot: string[]; attempts: Attempt[] }
  | { kind: "stop"; message: string };

/** The only programs that this script starts, by the paths that the `setup` task allows. */
const APT = "/usr/bin/apt-get";
const SUDO = "/usr/bin/sudo";

/** Environment variables that steer the Vulkan loader and the search for it. */
const VARIABLES = [
  "VK_DRIVER_FILES",
  "VK_ICD_FILENAMES",
  "VK_ADD_DRIVER_FILES",
  "XDG_CONFIG_HOME",
  "XDG_CONFIG_DIRS",
  "XDG_DATA_HOME",
  "XDG_DATA_DIRS",
  "LD_LIBRARY_PATH",
  "HOME",
];

/** Keeps Debian's packages from asking questions; sudo drops it from the environment, so it is named there. */
const FRONTEND = "DEBIAN_FRONTEND";

const BACKPORTS = "deb http://deb.debian.org/debian bookworm-backports main";
const PACKAGES = ["libvulkan1", "mesa-vulkan-drivers"];

/** Options of every apt-get call: no wait without end for a lock or for a server that does not answer. */
const APT_OPTIONS = ["DPkg::Lock::Timeout=120", "Acquire::http::Timeout=20", "Acquire::Retries=2"]
  .flatMap((option) => ["-o", option]);

/**
 * Looks where the Vulkan loader looks.
 *
 * Source: "Driver interface to the Vulkan Loader" (Khronos), chapters "Driver Discovery on Linux" and
 * "Overriding the Default Driver Discovery".
 *
 * @param disk The machine's files.
 * @param options.env Environment variables.
 * @param options.arch `Deno.build.arch`, for Debian's library folders.
 */
export function findVulkan(
  disk: Disk,
  options: { env: Record<string, string | undefined>; arch: string },
): Vulkan {
  const { env, arch } = options;
  const listed = disk.list("/etc/ld.so.conf.d").flatMap((name) =>
    (disk.read(`/etc/ld.so.conf.d/${name}`) ?? "").split("\n").map((line) => line.trim())
  );
  const libraryFolders = [
    ...paths(env.LD_LIBRARY_PATH),
    `/usr/lib/${arch}-linux-gnu`,
    ...["/usr/lib64", "/usr/lib", "/lib64", "/lib", "/usr/local/lib"],
    ...listed.filter((line) => line.startsWith("/")),
  ];
  const loader = libraryFolders.map((folder) => `${folder}/libvulkan.so.1`).find(disk.exists);

  const variable = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].find((name) => env[name]);
  if (variable !== undefined) {
    const drivers = paths(env[variable]).flatMap((path) => manifests(disk, path));
    return { loader, drivers, unseen: [], override: `${variable}=${env[variable]}` };
  }
  const searched = [
    env.XDG_CONFIG_HOME ?? `${env.HOME ?? ""}/.config`,
    ...paths(env.XDG_CONFIG_DIRS ?? "/etc/xdg"),
    ...["/etc", "/usr/local/etc"],
    env.XDG_DATA_HOME ?? `${env.HOME ?? ""}/.local/share`,
    ...paths(env.XDG_DATA_DIRS ?? ""),
    ...["/usr/local/share", "/usr/share", "/run/opengl-driver/share"],
  ].map((folder) => `${folder}/vulkan/icd.d`);
  const drivers = [...searched, ...paths(env.VK_ADD_DRIVER_FILES)]
    .flatMap((path) => manifests(disk, path));
  const unseen = manifests(disk, "/usr/local/nvidia/share/vulkan/icd.d");
  return { loader, drivers, unseen: drivers.length > 0 ? [] : unseen, override: undefined };
}

/** The parts of a `PATH`-like variable. */
function paths(value: string | undefined): string[] {
  return (value ?? "").split(":").filter((part) => part !== "");
}

/** Usable driver manifests at a path, which is a manifest or a folder of them. */
function manifests(disk: Disk, path: string): string[] {
  const files = path.endsWith(".json")
    ? [path]
    : disk.list(path).filter((name) => name.endsWith(".json")).map((name) => `${path}/${name}`);
  return files.filter((file) => {
    const text = disk.read(file);
    if (text === undefined) return false;
    // A bare library name is searched by the dynamic linker; an absolute one can be checked here.
    const library = /"library_path"\s*:\s*"([^"]+)"/.exec(text)?.[1] ?? "";
    return !library.startsWith("/") || disk.exists(library);
  });
}

/** The fields of an os-release file, without quotes. */
export function parseOsRelease(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const [, name, value] = /^([A-Z_]+)=(.*)$/.exec(line.trim()) ?? [];
    if (name !== undefined) fields[name] = (value ?? "").replace(/^(["'])(.*)\1$/, "$2");
  }
  return fields;
}

/** Whether WebGPU has a driver: Metal and Direct3D 12 come with the system, Vulkan needs both its files. */
export function isReady(os: string, vulkan: Vulkan): boolean {
  return os === "darwin" || os === "windows" ||
    (vulkan.loader !== undefined && vulkan.drivers.length > 0);
}

/**
 * Decides what to do, from facts alone.
 *
 * @param facts What is known about the machine.
 * @returns Nothing to do, tries at an installation in order, or a message to stop with.
 */
export function makePlan(facts: Facts): Plan {
  const { vulkan } = facts;
  if (isReady(facts.os, vulkan)) return { kind: "nothing" };
  if (vulkan.override !== undefined && vulkan.drivers.length === 0) {
    return {
      kind: "stop",
      message: `No Vulkan driver file at ${vulkan.override}: correct the variable, or unset it`,
    };
  }
  const hasDriver = vulkan.drivers.length > 0 || vulkan.unseen.length > 0;
  if (vulkan.loader !== undefined && hasDriver) {
    const note = `Note: Vulkan may not see the driver file ${vulkan.unseen[0]}. ` +
      `If the adapter is not the expected one, set VK_DRIVER_FILES=${vulkan.unseen[0]}`;
    return { kind: "nothing", note };
  }
  const packages = hasDriver ? ["libvulkan1"] : PACKAGES;
  const missing = hasDriver
    ? `Vulkan has a driver file (${[...vulkan.drivers, ...vulkan.unseen][0]}) but no libvulkan.so.1`
    : "No Vulkan driver found, and WebGPU needs one";
  const root = facts.uid === 0;
  if (isDebian(facts) && facts.apt && (root || facts.sudo === "free")) {
    return {
      kind: "install",
      asRoot: asRoot(root),
      attempts: attemptsFor(facts, { packages, missing }),
    };
  }
  return { kind: "stop", message: `${missing}.\n${adviceFor(facts, packages)}` };
}

/** Whether the system is Debian or made from it (Ubuntu, Mint, Raspberry Pi OS, ...). */
function isDebian(facts: Facts): boolean {
  const { ID = "", ID_LIKE = "" } = parseOsRelease(facts.osRelease);
  return [ID, ...ID_LIKE.split(" ")].some((name) => name === "debian" || name === "ubuntu");
}

/** Whether the faster Mesa has to come from Debian 12's backports. */
function needsBackports(facts: Facts, packages: string[]): boolean {
  const { ID, VERSION_CODENAME } = parseOsRelease(facts.osRelease);
  return ID === "debian" && VERSION_CODENAME === "bookworm" &&
    packages.includes("mesa-vulkan-drivers");
}

/** The tries at an installation, best first. */
function attemptsFor(
  facts: Facts,
  options: { packages: string[]; missing: string },
): Attempt[] {
  const { packages, missing } = options;
  const install = ["install", "-y", "--no-install-recommends"];
  const names = packages.join(" and ");
  const software = packages.includes("mesa-vulkan-drivers")
    ? " (software Vulkan, no GPU needed)"
    : "";
  const plain = { install: [...install, ...packages] };
  if (!needsBackports(facts, packages)) {
    return [{ ...plain, say: `${missing}.\nInstalling ${names}${software} with apt-get ...` }];
  }
  // A second entry for the same suite can contradict the machine's own one, so none is added then.
  const known = /^[^#\n]*\bbookworm-backports\b/m.test(facts.aptSources);
  return [
    {
      say: `${missing}.\nInstalling ${names}${software} with apt-get, from bookworm-backports: ` +
        "its Mesa 25 is 4 to 5 times faster than Debian 12's own Mesa 22 ...",
      sources: known ? undefined : `${facts.sourcesList.trimEnd()}\n${BACKPORTS}\n`.trimStart(),
      install: [...install, "-t", "bookworm-backports", ...packages],
    },
    {
      ...plain,
      say: "That failed, bookworm-backports may be out of reach. " +
        "Installing Debian 12's own Mesa 22 instead: training will be 4 to 5 times slower ...",
    },
  ];
}

/** The command that installs Vulkan on the system at hand, with the words around it. */
function adviceFor(facts: Facts, packages: string[]): string {
  const { ID = "", ID_LIKE = "", PRETTY_NAME } = parseOsRelease(facts.osRelease);
  const root = facts.uid === 0;
  const sudo = root || facts.sudo === "missing" ? "" : "sudo ";
  const command = commandFor(facts, { names: [ID, ...ID_LIKE.split(" ")], packages, sudo });
  if (command === undefined) {
    return "Install the Vulkan loader (libvulkan.so.1) and a driver for this machine: the GPU vendor's, " +
      "or Mesa's lavapipe, which runs on the processor. Then run this again";
  }
  const who = root || sudo !== "" ? "Run" : "As root, run";
  return `${who} this on ${PRETTY_NAME ?? ID}, then start again ` +
    `(with a GPU, its vendor's Vulkan driver is better):\n\n    ${command}\n`;
}

/** The install command by distribution; `undefined` where none is known. */
function commandFor(
  facts: Facts,
  options: { names: string[]; packages: string[]; sudo: string },
): string | undefined {
  const { names, packages, sudo } = options;
  if (isDebian(facts)) {
    const install = `${sudo}apt-get install -y --no-install-recommends`;
    const update = `${sudo}apt-get update`;
    if (!needsBackports(facts, packages)) return `${update} && ${install} ${packages.join(" ")}`;
    return `echo '${BACKPORTS}' | ${sudo}tee /etc/apt/sources.list.d/bookworm-backports.list && ` +
      `${update} && ${install} -t bookworm-backports ${packages.join(" ")}`;
  }
  const commands: [string, string][] = [
    ["fedora", `${sudo}dnf install -y vulkan-loader mesa-vulkan-drivers`],
    ["rhel", `${sudo}dnf install -y vulkan-loader mesa-vulkan-drivers`],
    ["arch", `${sudo}pacman -S --needed vulkan-icd-loader vulkan-swrast`],
    ["alpine", `${sudo}apk add vulkan-loader mesa-vulkan-swrast`],
    ["suse", `${sudo}zypper install libvulkan1 libvulkan_lvp`],
    ["opensuse", `${sudo}zypper install libvulkan1 libvulkan_lvp`],
    [
      "nixos",
      "# hardware.graphics.enable = true; in configuration.nix, nixos-rebuild switch, and in this shell\n" +
      "    export LD_LIBRARY_PATH=$(nix-build '<nixpkgs>' -A vulkan-loader --no-out-link)/lib",
    ],
  ];
  return commands.find(([name]) => names.includes(name))?.[1];
}

/**
 * Decides how the browser of `deno task test:browser` gets onto the machine. Debian has it as a package;
 * Ubuntu's package of that name is an empty one that points to a snap.
 *
 * @param facts What is known about the machine.
 * @param options.path The `PATH` variable.
 * @param options.disk The machine's files.
 */
export function planBrowser(facts: Facts, options: { path: string; disk: Disk }): Plan {
  if (paths(options.path).some((folder) => options.disk.exists(`${folder}/chromium`))) {
    return { kind: "nothing" };
  }
  const missing = "No program `chromium` found, and the browser tests need one";
  const debian = parseOsRelease(facts.osRelease).ID === "debian" && facts.apt;
  const root = facts.uid === 0;
  if (debian && (root || facts.sudo === "free")) {
    return {
      kind: "install",
      asRoot: asRoot(root),
      attempts: [{
        say: `${missing}.\nInstalling chromium with apt-get ...`,
        install: ["install", "-y", "--no-install-recommends", "chromium"],
      }],
    };
  }
  const command = debian ? ":\n\n    sudo apt-get install chromium" : "";
  return {
    kind: "stop",
    message: `${missing}.\nInstall Chromium or Chrome so that \`chromium\` starts it${command}`,
  };
}

/** What goes before `apt-get`. */
function asRoot(root: boolean): string[] {
  return root ? [] : [SUDO, "-n", "/usr/bin/env", `${FRONTEND}=noninteractive`];
}

/** The files of this machine. */
const machine: Disk = {
  read(path) {
    try {
      return Deno.readTextFileSync(path);
    } catch {
      return undefined;
    }
  },
  exists(path) {
    try {
      Deno.statSync(path);
      return true;
    } catch {
      return false;
    }
  },
  list(folder) {
    try {
      return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
    } catch {
      return [];
    }
  },
};

/** Searches this machine for Vulkan. */
function lookForVulkan(): Vulkan {
  const env = Object.fromEntries(VARIABLES.map((name) => [name, Deno.env.get(name)]));
  return findVulkan(machine, { env, arch: Deno.build.arch });
}

/** Runs a program with no input; its output lines come back, error stream included. */
function runProgram(command: string[]): { ok: boolean; lines: string[] } {
  const [program = "", ...args] = command;
  const env = { [FRONTEND]: "noninteractive" };
  const result = new Deno.Command(program, { args, env, stdin: "null" }).outputSync();
  const decoder = new TextDecoder();
  const text = decoder.decode(result.stdout) + decoder.decode(result.stderr);
  return { ok: result.success, lines: text.split("\n").filter((line) => line.trim() !== "") };
}

/** Collects the facts about this machine. */
function gatherFacts(vulkan: Vulkan): Facts {
  const sourcesList = machine.read("/etc/apt/sources.list") ?? "";
  const folder = "/etc/apt/sources.list.d";
  const parts = machine.list(folder).map((name) => machine.read(`${folder}/${name}`) ?? "");
  const uid = Deno.uid();
  let sudo: Facts["sudo"] = "missing";
  if (uid !== 0 && machine.exists(SUDO)) {
    sudo = runProgram([SUDO, "-n", "true"]).ok ? "free" : "password";
  }
  return {
    os: Deno.build.os,
    vulkan,
    osRelease: machine.read("/etc/os-release") ?? machine.read("/usr/lib/os-release") ?? "",
    uid,
    sudo,
    apt: machine.exists(APT),
    sourcesList,
    aptSources: [sourcesList, ...parts].join("\n"),
  };
}

/** Carries one try out. Lists that cannot be refreshed are no failure by themselves: the install decides. */
function tryInstall(attempt: Attempt, asRoot: string[]): { ok: boolean; lines: string[] } {
  const file = attempt.sources === undefined
    ? undefined
    : Deno.makeTempFileSync({ dir: "/tmp", prefix: "lathe-", suffix: ".list" });
  try {
    if (file !== undefined) Deno.writeTextFileSync(file, attempt.sources ?? "");
    const list = file === undefined ? [] : ["-o", `Dir::Etc::sourcelist=${file}`];
    const apt = [...asRoot, APT, ...APT_OPTIONS, ...list];
    const update = runProgram([...apt, "update"]);
    const install = runProgram([...apt, ...attempt.install]);
    // apt-get update reports a server out of reach as a warning only.
    const complaints = update.lines.filter((line) => /^(W|E|Err)[: ]/.test(line));
    return { ok: install.ok, lines: [...complaints.slice(-4), ...install.lines.slice(-6)] };
  } finally {
    if (file !== undefined) Deno.removeSync(file);
  }
}

/** What there is to set up: its name in messages and how to plan for it. */
interface Target {
  name: string;
  plan(): Plan;
}

const TARGETS: Record<string, Target> = {
  vulkan: {
    name: "Vulkan",
    plan() {
      const vulkan = lookForVulkan();
      // The facts take a moment (sudo is tried), so they are left out where nothing is to be done.
      if (isReady(Deno.build.os, vulkan)) return { kind: "nothing" };
      return makePlan(gatherFacts(vulkan));
    },
  },
  browser: {
    name: "Chromium",
    plan() {
      const path = Deno.env.get("PATH") ?? "";
      return planBrowser(gatherFacts(lookForVulkan()), { path, disk: machine });
    },
  },
};

/** Carries the target's plan out; the exit status says whether the machine is ready. */
function main(target: Target): void {
  const plan = target.plan();
  if (plan.kind === "stop") {
    console.error(plan.message);
    Deno.exit(1);
  }
  if (plan.kind === "nothing") {
    if (plan.note !== undefined) console.error(plan.note);
    return;
  }
  let lines: string[] = [];
  for (const attempt of plan.attempts) {
    console.error(attempt.say);
    const result = tryInstall(attempt, plan.asRoot);
    lines = result.lines;
    if (result.ok) break;
  }
  const after = target.plan();
  if (after.kind !== "nothing") {
    console.error(`Could not install ${target.name}. The last words of apt-get:\n`);
    for (const line of lines) console.error(`    ${line}`);
    Deno.exit(1);
  }
  console.error(`${target.name} is installed.`);
  if (after.note !== undefined) console.error(after.note);
}

if (import.meta.main) {
  const [name = "vulkan"] = Deno.args;
  const target = TARGETS[name];
  if (target === undefined) {
    console.error(`Cannot set up ${name}: it must be ${Object.keys(TARGETS).join(" or ")}`);
    Deno.exit(1);
  }
  main(target);
}
