import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  type Disk,
  type Facts,
  findVulkan,
  makePlan,
  parseOsRelease,
  type Plan,
  planBrowser,
} from "../setup.ts";

const LOADER = "/usr/lib/x86_64-linux-gnu/libvulkan.so.1";
const DRIVER = "/usr/share/vulkan/icd.d/lvp_icd.json";
const MANIFEST = `{ "ICD": { "api_version": "1.4.305", "library_path": "libvulkan_lvp.so" } }`;
const BOOKWORM = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_CODENAME=bookworm
`;
const TRIXIE = `ID=debian\nVERSION_CODENAME=trixie\n`;
const UBUNTU = `NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n`;
const MINT = `ID=linuxmint\nID_LIKE="ubuntu debian"\n`;

/** A disk with the given files and nothing else. */
function disk(files: Record<string, string>): Disk {
  const names = Object.keys(files);
  return {
    read: (path) => files[path],
    exists: (path) => names.some((name) => name === path || name.startsWith(`${path}/`)),
    list: (folder) => {
      const inside = names.filter((name) => name.startsWith(`${folder}/`));
      return inside.map((name) => name.slice(folder.length + 1)).filter((name) =>
        !name.includes("/")
      );
    },
  };
}

/** Where Vulkan is found on a 64-bit PC with the given files and environment. */
function find(files: Record<string, string>, env: Record<string, string> = {}) {
  return findVulkan(disk(files), { env: { HOME: "/home/ada", ...env }, arch: "x86_64" });
}

/** Facts about a Debian 12 machine without Vulkan, as root, with changes. */
function facts(changes: Partial<Facts> = {}): Facts {
  return {
    os: "linux",
    vulkan: { loader: undefined, drivers: [], unseen: [], override: undefined },
    osRelease: BOOKWORM,
    uid: 0,
    sudo: "missing",
    apt: true,
    sourcesList: "",
    aptSources: "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n",
    ...changes,
  };
}

/** The plan, which has to be of the given kind. */
function planOf<K extends Plan["kind"]>(
  kind: K,
  changes: Partial<Facts>,
): Extract<Plan, { kind: K }> {
  return ofKind(kind, makePlan(facts(changes)));
}

function ofKind<K extends Plan["kind"]>(kind: K, plan: Plan): Extract<Plan, { kind: K }> {
  assertEquals(plan.kind, kind);
  return plan as Extract<Plan, { kind: K }>;
}

Deno.test("findVulkan() finds Debian's loader and driver", () => {
  assertEquals(find({ [LOADER]: "", [DRIVER]: MANIFEST }), {
    loader: LOADER,
    drivers: [DRIVER],
    unseen: [],
    override: undefined,
  });
});

Deno.test("findVulkan() finds nothing on an empty disk, nor in other files beside the manifests", () => {
  const nothing = { loader: undefined, drivers: [], unseen: [], override: undefined };
  assertEquals(find({}), nothing);
  assertEquals(
    find({ "/usr/share/vulkan/icd.d/README": "", "/usr/lib/libvulkan.so": "" }),
    nothing,
  );
});

Deno.test("findVulkan() follows the loader's variables and the linker's folders", () => {
  for (
    const [path, env] of [
      ["/etc/vulkan/icd.d/nvidia_icd.json", {}],
      ["/usr/local/share/vulkan/icd.d/a.json", {}],
      ["/home/ada/.local/share/vulkan/icd.d/a.json", {}],
      ["/opt/x/share/vulkan/icd.d/a.json", { XDG_DATA_DIRS: "/opt/y/share:/opt/x/share" }],
      ["/opt/x/a.json", { VK_ADD_DRIVER_FILES: "/opt/x/a.json" }],
    ] as [string, Record<string, string>][]
  ) {
    assertEquals(find({ [path]: MANIFEST }, env).drivers, [path]);
  }
  assertEquals(
    find({ "/opt/v/libvulkan.so.1": "" }, { LD_LIBRARY_PATH: "/opt/w:/opt/v" }).loader,
    "/opt/v/libvulkan.so.1",
  );
  assertEquals(
    find({ "/etc/ld.so.conf.d/a.conf": "# none\n/srv/lib\n", "/srv/lib/libvulkan.so.1": "" })
      .loader,
    "/srv/lib/libvulkan.so.1",
  );
});

Deno.test("findVulkan() lets VK_DRIVER_FILES and VK_ICD_FILENAMES replace the search", () => {
  const files = { [DRIVER]: MANIFEST, "/a/b.json": MANIFEST, "/a/c.json": MANIFEST };
  assertEquals(find(files, { VK_DRIVER_FILES: "/a/b.json" }).drivers, ["/a/b.json"]);
  assertEquals(find(files, { VK_DRIVER_FILES: "/a" }).drivers, ["/a/b.json", "/a/c.json"]);
  const wrong = find(files, { VK_ICD_FILENAMES: "/a/d.json" });
  assertEquals(wrong.drivers, []);
  assertEquals(wrong.override, "VK_ICD_FILENAMES=/a/d.json");
  assertEquals(find(files, { VK_DRIVER_FILES: "" }).drivers, [DRIVER]);
});

Deno.test("findVulkan() skips a manifest whose library is gone", () => {
  const manifest = `{ "ICD": { "library_path": "/opt/gpu/libgpu.so" } }`;
  assertEquals(find({ [DRIVER]: manifest }).drivers, []);
  assertEquals(find({ [DRIVER]: manifest, "/opt/gpu/libgpu.so": "" }).drivers, [DRIVER]);
});

Deno.test("parseOsRelease() removes quotes and skips other lines", () => {
  assertEquals(parseOsRelease(`# c\nID=debian\nNAME="A B"\nVERSION_ID='12'\n\n`), {
    ID: "debian",
    NAME: "A B",
    VERSION_ID: "12",
  });
});

Deno.test("makePlan() does nothing where a driver is present, nor on macOS and Windows", () => {
  const vulkan = find({ [LOADER]: "", [DRIVER]: MANIFEST });
  assertEquals(makePlan(facts({ vulkan })), { kind: "nothing" });
  assertEquals(makePlan(facts({ vulkan, uid: 1000, osRelease: "" })), { kind: "nothing" });
  assertEquals(makePlan(facts({ os: "darwin", uid: 501 })), { kind: "nothing" });
  assertEquals(makePlan(facts({ os: "windows", uid: null })), { kind: "nothing" });
});

Deno.test("makePlan() installs from the backports on bookworm, then from bookworm itself", () => {
  const plan = planOf("install", {
    sourcesList: "deb http://mirror.example/debian bookworm main\n",
  });
  assertEquals(plan.asRoot, []);
  assertEquals(plan.attempts.length, 2);
  const [best, plain] = plan.attempts;
  assertEquals(
    best?.sources,
    "deb http://mirror.example/debian bookworm main\n" +
      "deb http://deb.debian.org/debian bookworm-backports main\n",
  );
  assertEquals(
    best?.install.join(" "),
    "install -y --no-install-recommends -t bookworm-backports libvulkan1 mesa-vulkan-drivers",
  );
  assertStringIncludes(best?.say ?? "", "libvulkan1 and mesa-vulkan-drivers");
  assertEquals(plain?.sources, undefined);
  assertEquals(
    plain?.install.join(" "),
    "install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers",
  );
  assertStringIncludes(plain?.say ?? "", "slower");
});

Deno.test("makePlan() adds no second entry for backports that the machine has already", () => {
  const line = "deb http://mirror.example/debian bookworm-backports main\n";
  assertEquals(planOf("install", { aptSources: line }).attempts[0]?.sources, undefined);
  assert(planOf("install", { aptSources: `# ${line}` }).attempts[0]?.sources !== undefined);
});

Deno.test("makePlan() installs the plain packages on trixie, Ubuntu and their kin", () => {
  for (const osRelease of [TRIXIE, UBUNTU, MINT]) {
    const plan = planOf("install", { osRelease });
    assertEquals(plan.attempts.map((attempt) => attempt.install.join(" ")), [
      "install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers",
    ]);
    assertEquals(plan.attempts[0]?.sources, undefined);
  }
});

Deno.test("makePlan() uses sudo only where it asks for no password", () => {
  const free = planOf("install", { uid: 1000, sudo: "free" });
  assertEquals(free.asRoot.slice(0, 2), ["/usr/bin/sudo", "-n"]);

  const password = planOf("stop", { uid: 1000, sudo: "password" });
  assertStringIncludes(
    password.message,
    "echo 'deb http://deb.debian.org/debian bookworm-backports main' | " +
      "sudo tee /etc/apt/sources.list.d/bookworm-backports.list && sudo apt-get update && " +
      "sudo apt-get install -y --no-install-recommends -t bookworm-backports " +
      "libvulkan1 mesa-vulkan-drivers\n",
  );

  const missing = planOf("stop", { uid: 1000, sudo: "missing", osRelease: UBUNTU });
  assertStringIncludes(missing.message, "As root, run this");
  assertStringIncludes(
    missing.message,
    "    apt-get update && apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers\n",
  );
});

Deno.test("makePlan() prints the command of other distributions, and general words for unknown ones", () => {
  for (
    const [osRelease, command] of [
      ["ID=fedora\n", "    dnf install -y vulkan-loader mesa-vulkan-drivers\n"],
      [`ID="rocky"\nID_LIKE="rhel centos fedora"\n`, "    dnf install -y vulkan-loader"],
      ["ID=arch\n", "    pacman -S --needed vulkan-icd-loader vulkan-swrast\n"],
      ["ID=alpine\n", "    apk add vulkan-loader mesa-vulkan-swrast\n"],
      [
        `ID="opensuse-leap"\nID_LIKE="suse opensuse"\n`,
        "    zypper install libvulkan1 libvulkan_lvp\n",
      ],
      ["ID=nixos\n", "hardware.graphics.enable = true"],
    ] as [string, string][]
  ) {
    assertStringIncludes(planOf("stop", { osRelease, apt: false }).message, command);
  }
  const sudo = planOf("stop", { osRelease: "ID=arch\n", uid: 1000, sudo: "free", apt: false });
  assertStringIncludes(sudo.message, "    sudo pacman -S");
  for (const osRelease of ["", "ID=plan9\n"]) {
    const { message } = planOf("stop", { osRelease, apt: false });
    assertStringIncludes(message, "No Vulkan driver found");
    assertStringIncludes(message, "lavapipe");
  }
});

Deno.test("makePlan() installs the loader alone where a driver file waits for one", () => {
  const vulkan = find({ "/etc/vulkan/icd.d/nvidia_icd.json": MANIFEST });
  const plan = planOf("install", { vulkan });
  assertEquals(plan.attempts.map((attempt) => attempt.install.at(-1)), ["libvulkan1"]);
  assertEquals(plan.attempts[0]?.install.includes("mesa-vulkan-drivers"), false);
});

Deno.test("makePlan() installs nothing over a driver that the loader does not search, but says so", () => {
  const path = "/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json";
  const plan = planOf("nothing", { vulkan: find({ [LOADER]: "", [path]: MANIFEST }) });
  assertStringIncludes(plan.note ?? "", `VK_DRIVER_FILES=${path}`);
});

Deno.test("makePlan() stops at a variable that names no driver file", () => {
  const vulkan = find({ [LOADER]: "", [DRIVER]: MANIFEST }, { VK_DRIVER_FILES: "/a.json" });
  assertStringIncludes(planOf("stop", { vulkan }).message, "VK_DRIVER_FILES=/a.json");
});

Deno.test("planBrowser() installs chromium on Debian, and says elsewhere that it is missing", () => {
  const path = "/usr/local/bin:/usr/bin";
  const plan = (changes: Partial<Facts>, files: Record<string, string> = {}) =>
    planBrowser(facts(changes), { path, disk: disk(files) });
  assertEquals(plan({}, { "/usr/bin/chromium": "" }), { kind: "nothing" });
  const root = ofKind("install", plan({}));
  assertEquals(root.asRoot, []);
  assertEquals(root.attempts.map((a) => a.install.at(-1)), ["chromium"]);
  const free = ofKind("install", plan({ uid: 1000, sudo: "free", osRelease: TRIXIE }));
  assertEquals(free.asRoot[0], "/usr/bin/sudo");
  const asks = ofKind("stop", plan({ uid: 1000, sudo: "password" }));
  assertStringIncludes(asks.message, "sudo apt-get install chromium");
  // Ubuntu's package installs no program.
  for (const changes of [{ osRelease: UBUNTU }, { os: "darwin", osRelease: "", apt: false }]) {
    assertStringIncludes(ofKind("stop", plan(changes)).message, "Install Chromium or Chrome");
  }
});
