import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CliContext } from "../../src/cli/context.ts";
import { runProgram } from "../../src/cli/program.ts";
import { WeirError } from "../../src/lib/errors.ts";
import { withTempDir } from "../lib/temp-dir.ts";

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the CLI in this process; `connect` rejects unless a test gives another. */
async function weir(args: readonly string[], more: Partial<CliContext> = {}): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  const context: CliContext = {
    cwd: "/nonexistent",
    environment: {},
    stdin: (async function* (): AsyncGenerator<Uint8Array> {})(),
    stdout: { write: (data, done) => ((stdout += data.toString()), done?.()) },
    stderr: { write: (text) => (stderr += text) },
    interruption: () => new AbortController().signal,
    connect: () => Promise.reject(new WeirError("Unavailable", "Cannot connect: nobody is there")),
    runPart: () => Promise.reject(new Error("no part runs in these tests")),
    setExitCode: () => undefined,
    ...more,
  };
  return { status: await runProgram(context, "1.2.3", args), stdout, stderr };
}

describe("the weir command", () => {
  it("takes wrong words for wrong use, and says what was wanted", async () => {
    const connect = () => Promise.resolve({ close: () => Promise.resolve() } as never);
    const wrong: readonly (readonly [string[], RegExp])[] = [
      [["fs", "sync-interval", "/a", "60q"], /"60q" is no interval, wanted never, always/],
      [["tree", "cancel", "abc"], /"abc": wanted the number of an operation/],
      [["path", "replication", "/a"], /the replication of "\/a": wanted --min or --max/],
    ];
    await withTempDir(async (directory) => {
      const config = join(directory, "weir.yaml");
      await writeFile(config, "clusterName: test\n");
      for (const [args, said] of wrong) {
        const { status, stderr } = await weir([...args, "--config", config], { connect });
        assert.match(stderr, said);
        assert.equal(status, 64);
      }
    });
  });

  it("prints its version and its help with examples", async () => {
    assert.equal((await weir(["--version"])).stdout, "1.2.3\n");
    const help = await weir(["--help"]);
    assert.equal(help.status, 0);
    assert.match(help.stdout, /Examples:\n {2}\$ weir start/);
  });

  for (const path of [
    ...[
      "start",
      "stop",
      "status",
      "master",
      "worker",
      "fuse",
      "fs",
      "lineage",
      "cluster",
      "backup",
    ].map((name) => [name]),
    ...["ls", "cat", "put", "get", "mkdir", "mv", "rm", "stat", "mount", "unmount", "mounts"].map(
      (name) => ["fs", name],
    ),
    ...["getfattr", "setfattr", "getfacl", "setfacl", "ln", "mkfifo", "mknod"].map((name) => [
      "fs",
      name,
    ]),
    ...["chmod", "chown", "chgrp"].map((name) => ["fs", name]),
    ...["persist", "free", "locations", "checksum"].map((name) => ["fs", name]),
    ...["du", "count", "quota", "df", "head", "tail", "test", "touch", "cp", "fetch"].map(
      (name) => ["fs", name],
    ),
    ...["get", "ls", "set", "clear", "pin", "unpin", "ttl", "replication", "write-type"].map(
      (name) => ["path", name],
    ),
    ...["read-type", "owner", "clock"].map((name) => ["path", name]),
    ...["set", "get", "ls", "clear"].map((name) => ["path", "quota", name]),
    ...["record", "run", "ls", "show", "recover", "rm"].map((name) => ["lineage", name]),
    ...["members", "add", "remove", "promote", "replace", "transfer"].map((name) => [
      "cluster",
      name,
    ]),
    ...["create", "ls", "verify", "restore"].map((name) => ["backup", name]),
  ]) {
    it(`shows examples in the help of ${path.join(" ")}`, async () => {
      const help = await weir([...path, "--help"]);
      assert.equal(help.status, 0);
      assert.match(help.stdout, new RegExp(`Examples:\n {2}\\$ weir ${path.join(" ")}`));
      if (path.length === 2 || !["fs", "lineage", "cluster", "backup"].includes(path[0]!))
        assert.match(help.stdout, /--json/);
    });
  }

  for (const [args, wanted] of [
    [["no-such"], /^Cannot run weir: unknown command 'no-such' \(see weir --help\)\n$/],
    [
      ["fs", "cat"],
      /^Cannot run weir: missing required argument 'path' \(see weir fs cat --help\)\n$/,
    ],
    [["fs", "ls", "--colour"], /^Cannot run weir: unknown option '--colour'/],
    [
      ["fs", "put", "a", "/a", "--keepers", "0"],
      /^Cannot run weir: .* wanted a number from 1 to 8/,
    ],
    [["fs", "put", "a", "/a", "--write-type", "FAST"], /^Cannot run weir: .* MUST_CACHE/],
    [["fs", "mount", "/a", "file:///a", "--option", "x"], /^Cannot run weir: .* wanted key=value/],
    [["path", "quota", "set", "/a", "--bytes", "10 giga"], /^Cannot run weir: .* wanted a size/],
    [["path", "ttl", "/a", "soon"], /^Cannot run weir: .*wanted a duration such as 90s, 12h or 7d/],
    [["path", "write-type", "/a", "FAST"], /^Cannot run weir: .*MUST_CACHE/],
    [["path", "clear", "/a", "pins"], /^Cannot run weir: .*"pins" is no policy, wanted one of pin/],
    [["path", "owner", "/a", "--umask", "8"], /^Cannot run weir: .*wanted an octal mode/],
    [["start", "--ports", "80"], /^Cannot run weir: .* wanted usual or auto/],
    [
      ["lineage", "record", "--", "ls"],
      /^Cannot record a job without outputs: wanted --out PATH\n$/,
    ],
  ] as const) {
    it(`refuses "${args.join(" ")}" in one line with the exit status of wrong use`, async () => {
      const { status, stderr } = await weir(args);
      assert.match(stderr, wanted);
      assert.equal(stderr.split("\n").length, 2);
      assert.equal(status, 64);
    });
  }

  it("says how to name a cluster where there is none", async () => {
    const { status, stderr } = await weir(["fs", "ls", "/"]);
    assert.equal(status, 78);
    assert.match(stderr, /^Cannot find a cluster: .*Cure: .*--config FILE\n$/);
  });

  it("refuses a configuration with a wrong key, naming it", async () => {
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "masterz: []\n");
      const { status, stderr } = await weir(["fs", "ls", "/"], { cwd: directory });
      assert.equal(status, 78);
      assert.match(stderr, /"masterz" is no key of the configuration/);
    });
  });

  it("takes the configuration of a running local cluster, and prefers ./weir.yaml and the flag", async () => {
    await withTempDir(async (directory) => {
      const used: number[] = [];
      const connect: CliContext["connect"] = (config) => {
        used.push(config.masters[0]!.rpcPort);
        return Promise.reject(new WeirError("Unavailable", "Cannot connect"));
      };
      const { mkdir } = await import("node:fs/promises");
      await mkdir(join(directory, ".weir"));
      const withPort = (port: number) => `masters: [{ name: m, rpcPort: ${String(port)} }]\n`;
      await writeFile(join(directory, ".weir", "weir.yaml"), withPort(1001));
      await weir(["fs", "ls"], { cwd: directory, connect });
      await writeFile(join(directory, "weir.yaml"), withPort(1002));
      await weir(["fs", "ls"], { cwd: directory, connect });
      await writeFile(join(directory, "other.yaml"), withPort(1003));
      await weir(["fs", "ls"], {
        cwd: directory,
        connect,
        environment: { WEIR_CONFIG: "other.yaml" },
      });
      await weir(["fs", "ls", "--config", ".weir/weir.yaml"], { cwd: directory, connect });
      assert.deepEqual(used, [1001, 1002, 1003, 1001]);
    });
  });

  it("ends with the exit status of the error's code", async () => {
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      for (const [code, status] of [
        ["NotFound", 2],
        ["Unavailable", 69],
        ["Lost", 14],
        ["Internal", 70],
      ] as const) {
        const connect = () => Promise.reject(new WeirError(code, `Cannot do it: ${code}`));
        const ended = await weir(["fs", "cat", "/a"], { cwd: directory, connect });
        assert.deepEqual([ended.status, ended.stderr], [status, `Cannot do it: ${code}\n`]);
      }
    });
  });

  it("refuses a relative path before it asks the cluster", async () => {
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      const connect = () => Promise.resolve({ close: () => Promise.resolve() } as never);
      const ended = await weir(["fs", "cat", "a.txt"], { cwd: directory, connect });
      assert.equal(ended.status, 64);
      assert.match(ended.stderr, /^Cannot read "a.txt": wanted an absolute path/);
    });
  });

  it("shows paths in error messages as the text that was typed", async () => {
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      const path = Buffer.from("/grün", "utf8").toString("latin1");
      const connect = () =>
        Promise.reject(new WeirError("NotFound", `Cannot read "${path}": no such name`));
      const ended = await weir(["fs", "cat", "/grün"], { cwd: directory, connect });
      assert.equal(ended.stderr, 'Cannot read "/grün": no such name\n');
    });
  });

  it("names what was typed where the cluster speaks of inodes", async () => {
    const failing = (message: string) => () =>
      Promise.reject(new WeirError("AlreadyExists", message));
    const client = {
      mkdir: failing('Cannot create "dir" in directory 1: it exists'),
      rename: failing('Cannot rename "b" to "c": it exists'),
      close: () => Promise.resolve(),
    };
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      const connect = () => Promise.resolve(client as never);
      const made = await weir(["fs", "mkdir", "/a/dir"], { cwd: directory, connect });
      assert.deepEqual([made.status, made.stderr], [3, 'Cannot make "/a/dir": it exists\n']);
      const moved = await weir(["fs", "mv", "/ä/b", "/c"], { cwd: directory, connect });
      assert.equal(moved.stderr, 'Cannot rename "/ä/b" to "/c": it exists\n');
    });
  });

  it("writes no half of a JSON array for a directory that does not exist", async () => {
    const client = {
      stat: () => Promise.reject(new WeirError("NotFound", 'Cannot find "/nope": no such file')),
      close: () => Promise.resolve(),
    };
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      const connect = () => Promise.resolve(client as never);
      const ended = await weir(["fs", "ls", "--json", "/nope"], { cwd: directory, connect });
      assert.deepEqual(ended, {
        status: 2,
        stdout: "",
        stderr: 'Cannot list "/nope": no such file\n',
      });
    });
  });

  for (const entries of [0, 1, 2]) {
    it(`lists a directory of ${String(entries)} names as one JSON array`, async () => {
      const time = { sec: 0, nsec: 0 };
      const status = { kind: "directory", atime: time, mtime: time, ctime: time };
      const client = {
        stat: () => Promise.resolve(status),
        list: () => Array.from({ length: entries }, () => ({ name: "n", status })).values(),
        close: () => Promise.resolve(),
      };
      await withTempDir(async (directory) => {
        await writeFile(join(directory, "weir.yaml"), "");
        const connect = () => Promise.resolve(client as never);
        const { stdout } = await weir(["fs", "ls", "--json"], { cwd: directory, connect });
        assert.equal((JSON.parse(stdout) as unknown[]).length, entries);
      });
    });
  }

  it("mounts with options from a file and from variables, so that ps shows no secret", async () => {
    const mounted: unknown[] = [];
    const client = {
      mount: (...args: unknown[]) => Promise.resolve(mounted.push(args)),
      close: () => Promise.resolve(),
    };
    await withTempDir(async (directory) => {
      await writeFile(join(directory, "weir.yaml"), "");
      await writeFile(join(directory, "o"), "# keys\naccessKey=a\n\nsecretKey=b=c\nregion=x\n");
      const context = {
        cwd: directory,
        connect: () => Promise.resolve(client as never),
        environment: { REGION: "north" },
      };
      const mount = ["fs", "mount", "/p", "s3://p", "--option-file", "o"];
      await weir([...mount, "--option", "region=@env:REGION"], context);
      const options = { accessKey: "a", secretKey: "b=c", region: "north" };
      const flags = { readOnly: false, shared: true, overlap: false };
      assert.deepEqual(mounted, [["/p", "s3://p", { ...flags, options }]]);

      const unset = await weir([...mount, "--option", "region=@env:NONE"], context);
      assert.equal(unset.status, 64);
      assert.match(unset.stderr, /^Cannot mount "s3:\/\/p" at "\/p": .*no variable "NONE"\n$/);
      await writeFile(join(directory, "o"), "secret\n");
      const wrong = await weir(mount, context);
      assert.match(wrong.stderr, /line 1 is no key=value\n$/);
      assert.doesNotMatch((await weir(["fs", "mount", "--help"])).stdout, /default: \{/);
      assert.doesNotMatch((await weir(["lineage", "record", "--help"])).stdout, /default: [[{]/);
    });
  });

  it("says that nothing runs here when there is nothing to stop", async () => {
    const { status, stderr } = await weir(["stop"]);
    assert.equal(status, 2);
    assert.match(stderr, /^Cannot stop: no cluster runs here/);
  });
});
