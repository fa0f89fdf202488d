import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { parseReadiness, SupervisedChild } from "../../src/cli/start/child.ts";
import { layoutOf } from "../../src/cli/start/layout.ts";
import { clearLeftovers, wipeState } from "../../src/cli/start/leftovers.ts";
import {
  localConfig,
  localConfigText,
  masterEnvironment,
  sizesFor,
  sizesOf,
  workerEnvironment,
  workerTiers,
} from "../../src/cli/start/local-config.ts";
import { lockHolder, takeLock } from "../../src/cli/start/lock.ts";
import { parseMounts } from "../../src/cli/start/mounts.ts";
import { readPidFiles, writePidFile } from "../../src/cli/start/pid-file.ts";
import { autoPorts, requireFree, usualPorts } from "../../src/cli/start/ports.ts";
import { requireFuse, requireSpace } from "../../src/cli/start/preflight.ts";
import {
  identify,
  isAlive,
  parseStat,
  signalProcess,
} from "../../src/cli/start/process-identity.ts";
import { loadConfig } from "../../src/lib/config.ts";
import { eventually } from "../lib/eventually.ts";
import { withTempDir } from "../lib/temp-dir.ts";

const gibibyte = 1024 ** 3;
const mebibyte = 1024 ** 2;
const space = { memoryBytes: 8 * gibibyte, diskBytes: 80 * gibibyte };
const sizes = sizesFor(space);

describe("the configuration of a local cluster", () => {
  const layout = layoutOf("/home/somebody/data 100%");

  it("is accepted by the schema, with three masters on their ports", () => {
    const config = localConfig(layout, localConfigText(layout, usualPorts, sizes));
    assert.deepEqual(
      config.masters.map(({ name, host, rpcPort, raftPort }) => [name, host, rpcPort, raftPort]),
      [
        ["master-1", "127.0.0.1", 19998, 19200],
        ["master-2", "127.0.0.1", 19996, 19201],
        ["master-3", "127.0.0.1", 19994, 19202],
      ],
    );
    assert.equal(config.master.rootUri, "file:///home/somebody/data 100%25/.weir/root");
    assert.equal(config.fuse.mountPoint, "/home/somebody/data 100%/mnt");
  });

  it("gives each process its own directories", () => {
    const text = localConfigText(layout, usualPorts, sizes);
    const file = { path: "weir.yaml", text };
    const directories = ["worker-1", "worker-2"].flatMap((name) => {
      const environment = workerEnvironment(layout, name, sizes);
      const { worker } = loadConfig({ file, environment });
      return [worker.scratchDir, ...worker.tiers.flatMap((tier) => tier.directories)];
    });
    const dataDirs = ["master-1", "master-2", "master-3"].map(
      (name) => loadConfig({ file, environment: masterEnvironment(layout, name) }).master.dataDir,
    );
    assert.equal(new Set([...directories, ...dataDirs]).size, 9);
  });

  it("takes at most half of what the memory file system has free, and none where there is little", () => {
    const small = sizesFor({ ...space, memoryBytes: 200 * mebibyte });
    assert.deepEqual(workerTiers(layout, "worker-1", small)[0], {
      medium: "MEM",
      directories: [join(layout.memory, "worker-1")],
      quotaBytes: 50 * mebibyte,
    });
    const none = workerTiers(layout, "worker-1", sizesFor({ ...space, memoryBytes: 0 }));
    assert.deepEqual(
      none.map(({ medium }) => medium),
      ["SSD"],
    );
  });

  it("has a block size that is a power of two, whatever is free", () => {
    for (const memoryBytes of [0, 1, 64 * mebibyte, 200 * mebibyte, 3e9, 8 * gibibyte]) {
      const { blockSizeBytes } = sizesFor({ ...space, memoryBytes });
      assert.ok(Number.isInteger(Math.log2(blockSizeBytes)), String(blockSizeBytes));
      assert.ok(blockSizeBytes >= mebibyte && blockSizeBytes <= 64 * mebibyte);
    }
  });

  it("keeps the block size and the tiers of the first start, and renews the ports", () => {
    for (const memoryBytes of [0, 200 * mebibyte, 8 * gibibyte]) {
      const first = sizesFor({ ...space, memoryBytes });
      const text = localConfigText(layout, usualPorts, first);
      assert.deepEqual(sizesOf(layout, text), first);
      const again = localConfigText(layout, { ...usualPorts, nats: 4333 }, sizesOf(layout, text));
      assert.equal(again, text.replace(String(usualPorts.nats), "4333"));
    }
  });
});

describe("the identity of a process", () => {
  it("is read past a command name with blanks and brackets", () => {
    const fields = ["S", ...Array.from({ length: 18 }, () => "0"), "4242", "0"].join(" ");
    assert.equal(parseStat(7, `7 (a) b (c)) ${fields}`, "boot")?.startTicks, 4242);
    assert.equal(parseStat(7, `7 (x) ${fields.replace("S", "Z")}`, "boot"), undefined);
  });

  it("does not match a recycled pid: such a process is never signalled", () => {
    const own = identify(process.pid)!;
    assert.equal(isAlive(own), true);
    const recycled = { ...own, startTicks: own.startTicks - 1 };
    assert.equal(isAlive(recycled), false);
    assert.equal(signalProcess(recycled, "SIGKILL"), false);
    assert.equal(isAlive({ ...own, bootId: "another boot" }), false);
  });
});

describe("the lock of a local cluster", () => {
  it("refuses a second start with the holder and the cure", () =>
    withTempDir((directory) => {
      const path = join(directory, "run", "supervisor.pid");
      const lock = takeLock(path);
      assert.equal(lockHolder(path)?.pid, process.pid);
      assert.throws(
        () => takeLock(path),
        new RegExp(`running here already \\(process ${String(process.pid)}\\).*weir stop`),
      );
      lock.release();
      takeLock(path).release();
      assert.deepEqual(readdirSync(join(directory, "run")), []);
      return Promise.resolve();
    }));

  it("of a killed supervisor is taken over, whole or cut short", () =>
    withTempDir((directory) => {
      const path = join(directory, "supervisor.pid");
      for (const left of [
        JSON.stringify({ ...identify(process.pid)!, startTicks: 1 }),
        '{"pid":',
        "",
      ]) {
        writeFileSync(path, left);
        takeLock(path).release();
      }
      assert.deepEqual(readdirSync(directory), []);
      return Promise.resolve();
    }));
});

describe("ports", () => {
  it("that are taken are named with the process that has them and the cure", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    try {
      const free = await autoPorts(3);
      await requireFree(free);
      await assert.rejects(
        requireFree({ ...free, nats: port }),
        new RegExp(
          `Cannot start nats-server: port ${String(port)} is taken by .*process ${String(process.pid)}.*--ports auto`,
        ),
      );
    } finally {
      server.close();
    }
  });
});

describe("what must hold before a start", () => {
  it("a missing FUSE device is one line with the cure and the way without", () => {
    assert.throws(
      () => requireFuse(layoutOf("/nonexistent"), "/nonexistent/fuse"),
      /^WeirError: Cannot mount: \/nonexistent\/fuse is missing\. Cure: .*modprobe fuse.*--no-fuse$/,
    );
  });

  it("a mount point with files in it is not hidden by a mount", () =>
    withTempDir((directory) => {
      mkdirSync(join(directory, "mnt"));
      writeFileSync(join(directory, "mnt", "precious"), "");
      assert.throws(
        () => requireFuse(layoutOf(directory), "/dev/null"),
        /the directory is not empty\. Cure: /,
      );
      return Promise.resolve();
    }));

  it("a full disk is told in mebibytes with the cure", () =>
    withTempDir((directory) => {
      assert.throws(
        () => requireSpace(layoutOf(directory), 1e18),
        /has \d+ MiB left, wanted \d+ MiB\. Cure: free some space/,
      );
      assert.ok(requireSpace(layoutOf(directory), 1).diskBytes > 0);
      return Promise.resolve();
    }));
});

describe("the table of mounts", () => {
  it("gives paths with blanks and umlauts as they are", () => {
    const text = Buffer.from(
      "weir /home/a\\040b/mn\u00fct fuse rw 0 0\nproc /proc proc rw 0 0\n",
      "utf8",
    ).toString("latin1");
    assert.deepEqual(parseMounts(text)[0], {
      source: "weir",
      path: "/home/a b/mnüt",
      type: "fuse",
    });
  });
});

describe("a supervised process", () => {
  async function withChild(
    script: string,
    use: (child: SupervisedChild, directory: string, events: string[]) => Promise<void>,
  ): Promise<void> {
    await withTempDir(async (directory) => {
      const layout = layoutOf(directory);
      for (const each of [layout.logs, layout.run]) mkdirSync(each, { recursive: true });
      const events: string[] = [];
      const child = new SupervisedChild(
        {
          name: "sample",
          program: "sh",
          args: ["-c", script],
          environment: {},
          ready: /^READY (\{.*\})$/m,
        },
        layout,
        (line) => events.push(line),
      );
      try {
        await use(child, directory, events);
      } finally {
        await child.stop(1000);
      }
    });
  }

  it("is ready when its log says so, and tells its port", () =>
    withChild('echo "READY {\\"port\\":4711}"; exec sleep 60', async (child) => {
      await child.start();
      assert.deepEqual(await child.ready(10_000), { port: 4711 });
    }));

  it("is started again when it crashes, and not while suspended", () =>
    withChild("echo READY {}; exec sleep 60", async (child, directory) => {
      await child.start();
      await child.ready(10_000);
      const first = child.pid!;
      await child.kill();
      await eventually("a new process", () => child.pid !== undefined && child.pid !== first);
      await child.ready(10_000);
      child.suspend();
      await child.kill();
      assert.equal(child.pid, undefined);
      assert.deepEqual(readPidFiles(layoutOf(directory).run), []);
      await child.start();
      await child.ready(10_000);
    }));

  it("that keeps ending fails its start with its own words", () =>
    withChild('echo "Cannot listen on port 1: permission denied" >&2; exit 3', async (child) => {
      await child.start();
      await assert.rejects(
        child.ready(20_000),
        /Cannot start sample: it ended at once: Cannot listen on port 1.*Log: /,
      );
    }));

  it("that ignores SIGTERM is killed after its grace", () =>
    withChild(
      "trap '' TERM; echo READY {}; while :; do sleep 0.1; done",
      async (child, _, events) => {
        await child.start();
        await child.ready(10_000);
        await child.stop(200);
        assert.equal(child.pid, undefined);
        assert.match(events.join("\n"), /did not end within 0.2 s and was killed/);
      },
    ));

  it("takes a line for ready only when it is whole", () => {
    assert.equal(parseReadiness('READY {"por', /^READY (\{.*\})$/m), undefined);
    assert.deepEqual(parseReadiness("[1] Server is ready", /Server is ready/), { port: undefined });
  });
});

describe("what a killed start left behind", () => {
  it("its processes are ended, strangers with a recycled pid are not", () =>
    withTempDir(async (directory) => {
      const layout = layoutOf(directory);
      mkdirSync(layout.run, { recursive: true });
      const [ours, stranger] = [0, 1].map(() => spawn("sleep", ["600"], { stdio: "ignore" }));
      try {
        writePidFile(layout.run, "worker-1", ours!.pid!);
        const identity = identify(stranger!.pid!)!;
        const recycled = { ...identity, startTicks: identity.startTicks - 100 };
        writeFileSync(join(layout.run, "master-1.pid"), JSON.stringify(recycled));
        const done = await clearLeftovers(layout);
        assert.deepEqual(done, [`ended worker-1 (process ${String(ours!.pid)})`]);
        assert.equal(isAlive(identity), true);
        assert.deepEqual(readdirSync(layout.run), []);
      } finally {
        ours!.kill("SIGKILL");
        stranger!.kill("SIGKILL");
      }
    }));

  it("its state is wiped but for the lock and what is asked to stay", () =>
    withTempDir((directory) => {
      const layout = layoutOf(directory);
      for (const each of ["logs", "root", "master-1", "run"]) {
        mkdirSync(join(layout.state, each), { recursive: true });
      }
      const lock = takeLock(layout.lock);
      wipeState(layout, ["logs"]);
      assert.deepEqual(readdirSync(layout.state).sort(), ["logs", "run"]);
      assert.ok(existsSync(layout.lock) && readFileSync(layout.lock, "utf8") !== "");
      lock.release();
      return Promise.resolve();
    }));
});
