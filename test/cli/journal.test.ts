import assert from "node:assert/strict";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { CliContext } from "../../src/cli/context.ts";
import { runProgram } from "../../src/cli/program.ts";
import type { SessionId } from "../../src/lib/ids.ts";
import { encode } from "../../src/lib/schema.ts";
import { encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { Entry, Term } from "../../src/raft/types.ts";
import { entryPayload } from "../../src/rpc/commands.ts";
import { entryAt, identity } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

async function weir(
  ...args: string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  let [stdout, stderr, exitCode] = ["", "", 0];
  const context: CliContext = {
    cwd: "/",
    environment: {},
    stdin: (async function* (): AsyncGenerator<Uint8Array> {})(),
    stdout: { write: (data, done) => ((stdout += data.toString()), done?.()) },
    stderr: { write: (text) => (stderr += text) },
    interruption: () => new AbortController().signal,
    connect: () => Promise.reject(new Error("no master runs in these tests")),
    runPart: () => Promise.reject(new Error("no part runs in these tests")),
    setExitCode: (code) => (exitCode = code),
  };
  const status = await runProgram(context, "1.2.3", ["journal", ...args]);
  return { status: status === 0 ? exitCode : status, stdout, stderr };
}

function commandEntry(index: number): Entry {
  const payload = encode(entryPayload, {
    clusterTimeMs: 5,
    wallTime: { sec: 1, nsec: 0 },
    requests: [
      {
        session: 0 as SessionId,
        sequence: 0,
        acknowledgedBelow: 0,
        atomic: true,
        commands: [
          { kind: "openSession", clientName: "a", timeoutMs: 1000 },
          { kind: "touchSessions", sessions: [] },
        ],
      },
    ],
  });
  return { ...entryAt(index, 2), payload };
}

describe("weir journal", () => {
  let directory: JournalDirectory;
  /** The first segment. */
  let path: string;
  beforeEach(async () => {
    directory = await JournalDirectory.make();
    const journal = await directory.open();
    await journal.initialize(identity);
    await journal.append({ hardState: { term: 2 as Term, vote: "node-b" }, entries: [] });
    const configuration = { voters: ["node-a"], outgoing: [], learners: ["node-b"] };
    await journal.append({
      entries: [
        { ...entryAt(1, 2, ""), kind: "noop" },
        { ...entryAt(2, 2), kind: "configuration", payload: encodeConfiguration(configuration) },
      ],
    });
    await journal.append({ entries: [commandEntry(3)] });
    await journal.append({ entries: [entryAt(4, 2, "no command")] });
    await journal.close();
    [path = ""] = await directory.segments();
  });
  afterEach(() => directory.remove());

  /** Flips a bit of the write that brought entries 1 and 2. */
  async function damage(): Promise<number> {
    const bytes = await readFile(path);
    const at = bytes.indexOf("node-b", 1536) + 2;
    bytes[at] = bytes[at]! ^ 1;
    await writeFile(path, bytes);
    return Math.floor(at / 512) * 512;
  }

  it("shows who it belongs to, its term and vote, its segments and what they hold", async () => {
    const { status, stdout } = await weir("inspect", directory.path);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /node +node-a\ncluster +cluster-1\nterm +2\nvote +node-b\nentries +1 to 4/,
    );
    assert.match(stdout, /000000000000\.wal +2 +32\.8 kB +6 +1 to 4 +2\n/);
    const { stdout: json } = await weir("inspect", directory.path, "--json");
    const summary = JSON.parse(json) as Record<string, unknown>;
    assert.deepEqual(summary["hardState"], { term: 2, vote: "node-b" });
    assert.deepEqual(summary["indexes"], { first: 1, last: 4 });
    assert.deepEqual(summary["problems"], []);
  });

  it("lists the entries, and what they carry", async () => {
    const { stdout } = await weir("inspect", directory.path, "--entries", "--decode", "--json");
    const { entries } = JSON.parse(stdout) as { entries: Record<string, unknown>[] };
    assert.deepEqual(
      entries.slice(0, 3).map(({ index, kind, carries }) => [index, kind, carries]),
      [
        [1, "noop", []],
        [2, "configuration", ["voters node-a", "learners node-b"]],
        [3, "command", ["openSession", "touchSessions"]],
      ],
    );
    // What is no command is said, not thrown.
    assert.match(String(entries[3]!["carries"]), /^Cannot decode/);
    const { stdout: text } = await weir("inspect", directory.path, "--entries");
    assert.match(text, /INDEX +TERM +KIND +BYTES\n +1 +2 +noop +0\n/);
  });

  it("takes the data directory of a master for the journal in it", async () => {
    const dataDir = `${dirname(directory.path)}/data`;
    await mkdir(dataDir);
    await rename(directory.path, join(dataDir, "journal"));
    const { status, stdout } = await weir("verify", dataDir);
    assert.equal(status, 0);
    assert.match(stdout, /^sound: 1 segment, 6 frames, entries 1 to 4\n$/);
  });

  it("says that the torn tail of a write will be cut", async () => {
    const bytes = await readFile(path);
    bytes.fill(1, 6144, 6200);
    await writeFile(path, bytes);
    const { status, stdout } = await weir("verify", directory.path);
    assert.equal(status, 0);
    assert.match(stdout, /torn tail: ".*000000000000\.wal", bytes 3584 to 6656: .*opening cuts it/);
    // Looking changed nothing.
    assert.ok(bytes.equals(await readFile(path)));
  });

  it("A6: tells of damage the file, the offset, what was wanted and the two ways back, and fails", async () => {
    const at = await damage();
    for (const args of [["verify"], ["verify", "--json"]]) {
      const { status, stderr, stdout } = await weir(...args, directory.path);
      assert.equal(status, 65);
      assert.equal(stdout, "");
      assert.ok(stderr.includes(`"${path}" is damaged at byte ${at}: `), stderr);
      assert.match(stderr, /what was synced before byte \d+ is not there/);
      assert.match(stderr, /weir cluster replace NAME.*weir backup restore FILE/);
    }
  });

  it("A6: shows of a damaged journal what lies before the damage and behind it", async () => {
    const at = await damage();
    const { status, stdout } = await weir("inspect", directory.path, "--entries");
    assert.equal(status, 65);
    assert.match(
      stdout,
      new RegExp(`000000000000\\.wal, byte ${at}: what it holds is not as it was`),
    );
    assert.match(stdout, /\n +3 +2 +command/);
    assert.doesNotMatch(stdout, /configuration/);
    const exported = await weir("export", directory.path);
    assert.equal(exported.status, 65);
    assert.equal(exported.stdout.trim().split("\n").length, 2);
    assert.match(exported.stderr, /What can be read was written out/);
    await writeFile(path, (await readFile(path)).fill(7, 0, 512));
    const beheaded = await weir("inspect", directory.path);
    assert.equal(beheaded.status, 65);
    assert.match(beheaded.stdout, /byte 0: it does not begin like a segment/);
  });

  it("writes the entries of a range as JSON lines", async () => {
    const { status, stdout } = await weir("export", directory.path, "--from", "2", "--to", "4");
    assert.equal(status, 0);
    const lines = stdout.trim().split("\n");
    const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      entries.map(({ index, term, kind }) => [index, term, kind]),
      [
        [2, 2, "configuration"],
        [3, 2, "command"],
        [4, 2, "command"],
      ],
    );
    const payload = Buffer.from(String(entries[2]!["payload"]), "base64");
    assert.equal(payload.toString(), "no command");
    const wrong = await weir("export", directory.path, "--from", "0");
    assert.equal(wrong.status, 64);
  });

  it("refuses a journal that a running master has open, and a directory without one", async () => {
    const journal = await directory.open();
    for (const verb of ["inspect", "verify", "export"]) {
      const { status, stderr } = await weir(verb, directory.path);
      assert.notEqual(status, 0);
      assert.match(
        stderr,
        new RegExp(`process ${process.pid} has it open; stop that master first`),
      );
    }
    await journal.close();
    const { stderr } = await weir("verify", "/nonexistent");
    assert.match(stderr, /^Cannot read a journal in "\/nonexistent": it has no segments\n$/);
  });
});
