import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withTempDir } from "../lib/temp-dir.ts";

const setup = fileURLToPath(new URL("../../scripts/setup.sh", import.meta.url));

interface Machine {
  /** Programs of the machine besides the shell's own, with what they do. */
  readonly programs: Readonly<Record<string, string>>;
  readonly packagesInstalled?: boolean;
  readonly args?: readonly string[];
}

/** Runs the set-up in a checkout of its own, on a machine that has only these programs. */
function runSetup(directory: string, machine: Machine) {
  const bin = join(directory, "bin");
  for (const each of [bin, join(directory, "scripts")]) mkdirSync(each, { recursive: true });
  // The places where system programs lie are replaced, so that the machine of the test does not shine through.
  const text = readFileSync(setup, "utf8").replace("PATH=$PATH:/usr/sbin:/sbin", "PATH=$PATH");
  writeFileSync(join(directory, "scripts", "setup.sh"), text);
  writeFileSync(join(directory, "package-lock.json"), "{}");
  if (machine.packagesInstalled !== false) {
    mkdirSync(join(directory, "node_modules"), { recursive: true });
    writeFileSync(join(directory, "node_modules", ".package-lock.json"), "{}");
    writeFileSync(join(directory, "node_modules", ".weir-lock.json"), "{}");
  }
  const tools = ["sh", "cmp", "cp", "rm", "mktemp", "tail", "dirname", "stat", "env", "id", "cat"];
  const real = Object.fromEntries(tools.map((name) => [name, `exec /usr/bin/${name} "$@"`]));
  for (const [name, script] of Object.entries({ ...real, ...machine.programs })) {
    const path = join(bin, name);
    if (existsSync(path)) continue;
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  }
  return spawnSync("/bin/sh", ["scripts/setup.sh", ...(machine.args ?? [])], {
    cwd: directory,
    env: { PATH: bin },
    encoding: "utf8",
  });
}

const node = { node: "echo 20.19.0" };
const nats = { "nats-server": "exit 0" };

describe("scripts/setup.sh", () => {
  it("is quiet where all is there", () =>
    withTempDir(async (directory) => {
      const ended = runSetup(directory, { programs: { ...node, ...nats }, args: ["--no-fuse"] });
      assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, "", ""]);
    }));

  it("refuses a missing or old Node with the version that is wanted", () =>
    withTempDir(async (directory) => {
      const missing = runSetup(directory, { programs: {} });
      assert.equal(missing.status, 1);
      assert.match(missing.stderr, /Node\.js is missing, wanted 20\.19 or newer/);
      for (const version of ["18.20.4", "20.18.3"]) {
        writeFileSync(join(directory, "bin", "node"), `#!/bin/sh\necho ${version}\n`, {
          mode: 0o755,
        });
        const old = runSetup(directory, { programs: {} });
        assert.match(old.stderr, new RegExp(`Node\\.js is ${version}, wanted 20\\.19 or newer`));
      }
    }));

  it("installs npm packages when there are none, and again when the lock file changed", () =>
    withTempDir(async (directory) => {
      const npm =
        'mkdir -p node_modules; echo {} >node_modules/.package-lock.json; echo "$1" >>npm-calls';
      const programs = { ...node, ...nats, npm, mkdir: 'exec /usr/bin/mkdir "$@"' };
      const machine = { programs, packagesInstalled: false, args: ["--no-fuse"] };
      const calls = () => readFileSync(join(directory, "npm-calls"), "utf8").trim().split("\n");
      assert.equal(runSetup(directory, machine).stdout, "Installing npm packages …\n");
      assert.equal(runSetup(directory, machine).stdout, "");
      assert.deepEqual(calls(), ["ci"]);
      // A newer lock file with another content.
      cpSync(
        join(directory, "scripts", "setup.sh"),
        join(directory, "node_modules", ".weir-lock.json"),
      );
      const future = new Date(Date.now() + 60_000);
      const { utimesSync } = await import("node:fs");
      utimesSync(join(directory, "package-lock.json"), future, future);
      const text = readFileSync(join(directory, "scripts", "setup.sh"), "utf8");
      assert.ok(text.includes("packages_are_current"));
      const again = spawnSync("/bin/sh", ["scripts/setup.sh", "--no-fuse"], {
        cwd: directory,
        env: { PATH: join(directory, "bin") },
        encoding: "utf8",
      });
      assert.equal(again.status, 0);
      assert.deepEqual(calls(), ["ci", "ci"]);
    }));

  it("does not let npm empty a directory that node_modules only links to", () =>
    withTempDir(async (directory) => {
      mkdirSync(join(directory, "elsewhere"));
      symlinkSync("elsewhere", join(directory, "node_modules"));
      const programs = { ...node, ...nats, npm: "echo called >npm-calls" };
      const ended = runSetup(directory, { programs, packagesInstalled: false });
      assert.equal(ended.status, 1);
      assert.match(ended.stderr, /node_modules is a link to another directory\. Cure: /);
      assert.equal(existsSync(join(directory, "npm-calls")), false);
    }));

  it("shows why npm failed", () =>
    withTempDir(async (directory) => {
      const programs = { ...node, ...nats, npm: "echo no route to the registry >&2; exit 1" };
      const ended = runSetup(directory, { programs, packagesInstalled: false });
      assert.equal(ended.status, 1);
      assert.match(ended.stderr, /no route to the registry\nCannot set up Weir: npm ci failed/);
    }));

  it("names each missing package with its command where it may not install", () =>
    withTempDir(async (directory) => {
      const programs = { ...node, "apt-get": "exit 1", id: "echo 1000", sudo: "exit 1" };
      const ended = runSetup(directory, { programs, args: ["--no-fuse", "--s3"] });
      assert.equal(ended.status, 1);
      for (const name of ["nats-server", "radosgw", "ceph-mon", "ceph-osd"]) {
        assert.match(
          ended.stderr,
          new RegExp(`Missing: ${name}: .*sudo apt-get install ${name}\n`),
        );
      }
    }));

  it("installs with apt-get as root, updating the lists only when it must", () =>
    withTempDir(async (directory) => {
      const aptGet = `echo "$*" >>apt-calls
case "$*" in
  update*) touch updated ;;
  install*) [ -e updated ] && { printf '#!/bin/sh\\n' >bin/nats-server; chmod +x bin/nats-server; } ;;
esac`;
      const programs = {
        ...node,
        "apt-get": aptGet,
        id: "echo 0",
        touch: 'exec /usr/bin/touch "$@"',
        chmod: 'exec /usr/bin/chmod "$@"',
      };
      const ended = runSetup(directory, { programs, args: ["--no-fuse"] });
      assert.deepEqual(
        [ended.status, ended.stdout],
        [0, "Installing Debian packages: nats-server …\n"],
      );
      const calls = readFileSync(join(directory, "apt-calls"), "utf8");
      assert.equal(calls.match(/^update/gm)?.length, 1);
      assert.match(calls, /install -y -qq --no-install-recommends nats-server/);
    }));

  it("uses sudo only where it asks for no password", () =>
    withTempDir(async (directory) => {
      const sudo =
        'echo "$*" >>sudo-calls; case "$*" in *install*) : >bin/nats-server; /usr/bin/chmod +x bin/nats-server ;; esac';
      const programs = { ...node, sudo, id: "echo 1000", "apt-get": "exit 9" };
      const ended = runSetup(directory, { programs, args: ["--no-fuse"] });
      assert.equal(ended.status, 0);
      const calls = readFileSync(join(directory, "sudo-calls"), "utf8").trim().split("\n");
      assert.equal(calls[0], "-n true");
      assert.ok(calls.every((call) => call.startsWith("-n ")));
    }));
});
