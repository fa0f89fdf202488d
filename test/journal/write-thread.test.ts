import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { pbkdf2 } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openThreadedFiles } from "../../src/journal/files.ts";
import { WriteThread } from "../../src/journal/write-thread.ts";
import { entryAt, identity } from "../contract/journal.ts";
import { JournalDirectory } from "../lib/journal-directory.ts";

describe("journal: the thread that writes", () => {
  let directory: string;
  let file: FileHandle;
  let thread: WriteThread;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-thread-"));
    file = await open(join(directory, "file"), "w+");
    thread = await WriteThread.start();
  });
  afterEach(async () => {
    await thread.stop();
    await file.close();
    await rm(directory, { recursive: true });
  });

  it("writes bytes of any length at their place", async () => {
    const long = Buffer.from(Array.from({ length: 2_500_000 }, (_, i) => i % 251));
    await thread.write(file.fd, Buffer.from("head"), 0);
    await thread.write(file.fd, long, 512);
    await thread.write(file.fd, Buffer.from("tail"), 5_000_000_000);
    const bytes = Buffer.alloc(long.length);
    await file.read(bytes, 0, bytes.length, 512);
    assert.ok(bytes.equals(long));
    const ends = Buffer.alloc(8);
    await file.read(ends, 0, 4, 0);
    await file.read(ends, 4, 4, 5_000_000_000);
    assert.equal(ends.toString(), "headtail");
  });

  it("rejects a write that the system refuses", async () => {
    const readOnly = await open(join(directory, "file"), "r");
    await assert.rejects(thread.write(readOnly.fd, Buffer.alloc(1), 0), /EBADF/);
    await readOnly.close();
  });

  it("rejects what comes after its end", async () => {
    await thread.stop();
    await assert.rejects(thread.write(file.fd, Buffer.alloc(1), 0), /has ended/);
  });

  it("does not wait for the threads that other work holds", async () => {
    let held = 0;
    const work = Array.from(
      { length: 12 },
      () =>
        new Promise<void>((resolve) => {
          held++;
          pbkdf2("a", "b", 100_000, 64, "sha512", () => {
            held--;
            resolve();
          });
        }),
    );
    for (let i = 0; i < 5; i++) await thread.write(file.fd, Buffer.alloc(512), i * 512);
    // More jobs than threads, and each takes far longer: a write behind them would find fewer left.
    assert.ok(held > 4, `${held} left`);
    await Promise.all(work);
  });

  it("does not wait for ever for a write that hangs, neither at its end nor at that of the process", async function () {
    this.timeout(20_000);
    const fifo = join(directory, "fifo");
    execFileSync("mkfifo", [fifo]);
    const full = await open(fifo, "r+");
    const hanging = await WriteThread.start();
    // No number is no position: a plain write, which waits for a reader once the pipe is full.
    const write = hanging.write(full.fd, Buffer.alloc(200_000), Number.NaN);
    await assert.rejects(hanging.stop(), /the disk keeps a write/);
    const sink = Buffer.alloc(200_000);
    for (let read = 0; read < sink.length; ) {
      read += (await full.read(sink, 0, sink.length, null)).bytesRead;
    }
    await write;
    await full.close();
    await hanging.stop();

    const program = `
      import { openSync } from "node:fs";
      import { WriteThread } from ${JSON.stringify(new URL("../../src/journal/write-thread.ts", import.meta.url).href)};
      const thread = await WriteThread.start();
      void thread.write(openSync(${JSON.stringify(fifo)}, "r+"), Buffer.alloc(200_000), Number.NaN);
      setTimeout(() => process.exit(0), 50);
    `;
    const script = join(directory, "hang.mts");
    await writeFile(script, program);
    const child = spawn(process.execPath, ["--import=tsx", script], {
      stdio: "inherit",
    });
    try {
      const [, signal] = (await once(child, "exit")) as [number | null, string | null];
      assert.equal(signal, "SIGKILL");
    } finally {
      child.kill("SIGKILL");
    }
  });

  it("carries a journal", async () => {
    const place = await JournalDirectory.make();
    try {
      const journal = await place.open({ openFiles: openThreadedFiles });
      await journal.initialize(identity);
      for (let i = 1; i <= 200; i++) await journal.append({ entries: [entryAt(i)] });
      await journal.close();
      const again = await place.open();
      assert.equal(again.state.entries.length, 200);
      await again.close();
    } finally {
      await place.remove();
    }
  });
});
