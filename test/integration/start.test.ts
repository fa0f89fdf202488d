import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { layoutOf } from "../../src/cli/start/layout.ts";
import { mountAt } from "../../src/cli/start/mounts.ts";
import { readPidFiles } from "../../src/cli/start/pid-file.ts";
import { isAlive, type ProcessIdentity } from "../../src/cli/start/process-identity.ts";
import { eventually } from "../lib/eventually.ts";
import { withTempDir } from "../lib/temp-dir.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const main = join(repository, "dist", "src", "cli", "main.js");
const seconds = 1000;

interface Ended {
  readonly status: number | null;
  readonly output: string;
}

/** A `weir start` in a directory of its own, as a user's shell would run it. */
class Start {
  readonly process: ChildProcess;
  output = "";

  constructor(home: string, ...args: string[]) {
    this.process = spawn(process.execPath, [main, "start", "--ports", "auto", ...args], {
      cwd: home,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    }
  }

  async up(): Promise<void> {
    await eventually(
      "the cluster to be up",
      () => {
        assert.equal(this.process.exitCode, null, this.output);
        return this.output.includes("Up in");
      },
      60 * seconds,
    );
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill(signal);
      await once(this.process, "exit");
    }
    return this.process.exitCode;
  }
}

function weir(home: string, ...args: string[]): Ended {
  const ended = spawnSync(process.execPath, [main, ...args], {
    cwd: home,
    encoding: "utf8",
    timeout: 60 * seconds,
  });
  return { status: ended.status, output: ended.stdout + ended.stderr };
}

/** Runs `use` and makes sure that nothing of it is left, whatever happened. */
async function withHome(use: (home: string, starts: Start[]) => Promise<void>): Promise<void> {
  await withTempDir(async (home) => {
    const starts: Start[] = [];
    try {
      await use(home, starts);
    } finally {
      for (const start of starts) await start.end("SIGTERM");
    }
  });
}

function assertNothingLeft(home: string, identities: readonly ProcessIdentity[]): void {
  const layout = layoutOf(home);
  assert.deepEqual(identities.filter(isAlive), [], "processes");
  assert.equal(mountAt(layout.mountPoint), undefined, "mount");
  for (const path of [layout.state, layout.memory, layout.mountPoint]) {
    assert.equal(existsSync(path), false, path);
  }
}

function processesOf(home: string): ProcessIdentity[] {
  return readPidFiles(layoutOf(home).run).map(({ identity }) => identity);
}

before(function () {
  this.timeout(120 * seconds);
  execFileSync("sh", ["scripts/build.sh"], { cwd: repository });
});

describe("weir start", function () {
  this.timeout(120 * seconds);

  it("serves, refuses a second start with the cure, and leaves nothing after weir stop", () =>
    withHome(async (home, starts) => {
      const start = new Start(home, "--no-fuse");
      starts.push(start);
      await start.up();
      const processes = processesOf(home);
      assert.equal(processes.length, 7); // supervisor, nats-server, three masters, two workers
      const status = JSON.parse(weir(home, "status", "--json").output) as {
        leader: string;
        workers: { state: string }[];
      };
      assert.match(status.leader, /^master-[123]$/);
      assert.deepEqual(
        status.workers.map(({ state }) => state),
        ["live", "live"],
      );

      const second = weir(home, "start", "--ports", "auto", "--no-fuse");
      assert.equal(second.status, 75);
      assert.match(
        second.output,
        /^Cannot start: Weir is running here already \(process \d+\)\. Cure: .*weir stop\n$/,
      );

      assert.equal(weir(home, "stop").status, 0);
      assert.equal(await start.end("SIGTERM"), 0);
      assertNothingLeft(home, processes);
    }));

  it("starts a killed process again, and what was written before is still there", () =>
    withHome(async (home, starts) => {
      const start = new Start(home, "--no-fuse");
      starts.push(start);
      await start.up();
      writeFileSync(join(home, "text"), "hello\n");
      assert.equal(weir(home, "fs", "put", "text", "/text").status, 0);
      for (const name of ["worker-1", "nats-server", "master-1"]) {
        const { pid } = readPidFiles(layoutOf(home).run).find(
          (each) => each.name === name,
        )!.identity;
        process.kill(pid, "SIGKILL");
        await eventually(`${name} to run again`, () =>
          readPidFiles(layoutOf(home).run).some(
            (each) => each.name === name && each.identity.pid !== pid,
          ),
        );
      }
      await eventually(
        "all to serve again",
        () => {
          const status = JSON.parse(weir(home, "status", "--json").output) as {
            masters: { role: string }[];
            workers: { state: string; silentMs: number }[];
          };
          return (
            status.masters.every(({ role }) => role === "leader" || role === "follower") &&
            status.workers.filter(({ state }) => state === "live").length >= 2
          );
        },
        30 * seconds,
      );
      assert.equal(weir(home, "fs", "cat", "/text").output, "hello\n");
    }));

  it("makes an output again whose only keeper came back without its memory", () =>
    withHome(async (home, starts) => {
      const start = new Start(home, "--no-fuse");
      starts.push(start);
      await start.up();
      writeFileSync(join(home, "text"), "b\na\n");
      assert.equal(weir(home, "fs", "put", "text", "/in").status, 0);
      assert.equal(weir(home, "fs", "persist", "--wait", "/in").status, 0);
      const job = ["--", "sort", "-o", "{out}", "{in}"];
      const recorded = weir(home, "lineage", "record", "--in", "/in", "--out", "/out", ...job);
      assert.equal(recorded.status, 0, recorded.output);
      assert.equal(weir(home, "lineage", "run", "1").status, 0);
      const { memory, run } = layoutOf(home);
      const holders = readdirSync(memory).filter((name) => {
        const containers = join(memory, name, "containers");
        return readdirSync(containers).some(
          (file) => readFileSync(join(containers, file), "utf8") === "a\nb\n",
        );
      });
      assert.equal(holders.length, 1);
      const holder = holders[0]!;
      const { pid } = readPidFiles(run).find((each) => each.name === holder)!.identity;
      process.kill(pid, "SIGKILL");
      rmSync(join(memory, holder), { recursive: true, force: true });
      assert.deepEqual(weir(home, "fs", "cat", "/out"), { status: 0, output: "a\nb\n" });
      const shown = JSON.parse(weir(home, "lineage", "show", "--json", "1").output) as {
        attempts: unknown[];
      };
      assert.equal(shown.attempts.length, 2);
    }));

  it("keeps the files of the last start with --keep, and only then", () =>
    withHome(async (home, starts) => {
      writeFileSync(join(home, "text"), "kept\n");
      const first = new Start(home, "--no-fuse", "--keep");
      starts.push(first);
      await first.up();
      assert.equal(
        weir(home, "fs", "put", "--write-type", "CACHE_THROUGH", "text", "/text").status,
        0,
      );
      assert.equal(await first.end("SIGINT"), 0);

      const second = new Start(home, "--no-fuse", "--keep");
      starts.push(second);
      await second.up();
      assert.equal(weir(home, "fs", "cat", "/text").output, "kept\n");
      await second.end("SIGINT");

      const third = new Start(home, "--no-fuse");
      starts.push(third);
      await third.up();
      assert.equal(weir(home, "fs", "stat", "/text").status, 2);
      const processes = processesOf(home);
      await third.end("SIGINT");
      assertNothingLeft(home, processes);
    }));

  it("names a taken port with who has it and the cure, and starts nothing", () =>
    withHome(async (home) => {
      // The usual ports may be free or taken on this machine: take the one that is asked first.
      const holder = spawn(process.execPath, [
        "-e",
        'require("net").createServer().on("error", () => console.log("taken")).listen(4222, "127.0.0.1", () => console.log("taken"))',
      ]);
      try {
        await once(holder.stdout, "data");
        const ended = weir(home, "start", "--no-fuse", "--ports", "usual");
        assert.equal(ended.status, 69);
        assert.match(
          ended.output,
          /^Cannot start nats-server: port 4222 is taken.*Cure: .*--ports auto\n$/,
        );
        assertNothingLeft(home, []);
      } finally {
        holder.kill("SIGKILL");
      }
    }));

  it("gives the tour without a mount, says what it leaves out, and leaves nothing", () =>
    withHome(async (home, starts) => {
      const data = join(home, "data");
      makeTree(data);
      const start = new Start(home, "--no-fuse", "--tour", "--once", "--data", data);
      starts.push(start);
      const [status] = (await once(start.process, "exit")) as [number];
      assert.equal(status, 0, start.output);
      for (const number of [1, 2, 3, 4, 5, 6]) {
        assert.match(start.output, new RegExp(`^ ${String(number)} ✓ `, "m"));
      }
      assert.match(start.output, /left out: the mount/);
      assertNothingLeft(home, []);
    }));
});

describe("weir start with a mount [needs: fuse]", function () {
  this.timeout(180 * seconds);

  it("gives the tour: all six steps pass, and nothing is left", () =>
    withHome(async (home, starts) => {
      const data = join(home, "data");
      makeTree(data);
      const start = new Start(home, "--tour", "--once", "--data", data);
      starts.push(start);
      const [status] = (await once(start.process, "exit")) as [number];
      assert.equal(status, 0, start.output);
      assert.match(start.output, /all 5 steps passed/);
      assertNothingLeft(home, []);
    }));

  it("A2: cleans up after kill -9 of everything: processes, the dead mount, files in memory", () =>
    withHome(async (home, starts) => {
      const layout = layoutOf(home);
      const first = new Start(home);
      starts.push(first);
      await first.up();
      mkdirSync(join(layout.mountPoint, "a"));
      const before = processesOf(home);
      await first.end("SIGKILL");
      // The mount's daemon and one worker as well; the others stay behind as orphans.
      for (const { name, identity } of readPidFiles(layout.run)) {
        if (name === "fuse" || name === "worker-1") process.kill(identity.pid, "SIGKILL");
      }
      assert.notEqual(mountAt(layout.mountPoint), undefined);

      const second = new Start(home);
      starts.push(second);
      await second.up();
      assert.match(second.output, /left by an earlier start: took away the dead mount/);
      assert.deepEqual(before.filter(isAlive), []);
      assert.deepEqual(readdirSync(layout.mountPoint), []);
      const processes = processesOf(home);
      assert.equal(await second.end("SIGTERM"), 0);
      assertNothingLeft(home, processes);
    }));

  it("mounts again when the mount's process is killed", () =>
    withHome(async (home, starts) => {
      const layout = layoutOf(home);
      const start = new Start(home);
      starts.push(start);
      await start.up();
      writeFileSync(join(layout.mountPoint, "text"), "hello\n");
      const { identity } = readPidFiles(layout.run).find(({ name }) => name === "fuse")!;
      process.kill(identity.pid, "SIGKILL");
      await eventually("the mount to serve again", () => {
        const now = readPidFiles(layout.run).find(({ name }) => name === "fuse");
        if (now === undefined || now.identity.pid === identity.pid) return false;
        return readFileSync(join(layout.mountPoint, "text"), "utf8") === "hello\n";
      });
    }));

  it("does not hide files that lie at the mount point", () =>
    withHome(async (home) => {
      mkdirSync(join(home, "mnt"));
      writeFileSync(join(home, "mnt", "precious"), "");
      const ended = weir(home, "start", "--ports", "auto");
      assert.equal(ended.status, 6);
      assert.match(ended.output, /^Cannot mount at ".*mnt": the directory is not empty\. Cure: /);
      assert.deepEqual(readdirSync(home), ["mnt"]);
    }));
});

/** A small tree with what trees have: directories, links that lead somewhere and nowhere, an empty file, odd names. */
function makeTree(data: string): void {
  for (let i = 0; i < 20; i++) {
    const directory = join(data, `package-${String(i)}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "copyright"), `line ${String(i)}\n`.repeat(200 + i));
    writeFileSync(join(directory, "grün & blau"), "x".repeat(i));
  }
  execFileSync("ln", ["-s", "../package-1/copyright", join(data, "package-2", "link")]);
  execFileSync("ln", ["-s", "nowhere", join(data, "package-2", "dangling")]);
}
