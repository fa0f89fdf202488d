/**
 * A thread that does one thing: write bytes to a descriptor that syncs, and say so. Commits then never wait behind the
 * reads and flushes of the metadata store, which hold libuv's four threads for milliseconds each.
 *
 * Bytes go over in shared memory, woken by a futex; only "done" comes back as a message, since that is what the event
 * loop waits for without a spin. What was measured is in docs/ARCHITECTURE.md.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { WeirError } from "../lib/errors.ts";

/** Longer writes go in pieces, each durable before the next: a crash between them is a torn write like any other. */
const pieceBytes = 1024 * 1024;
/** How long the end waits for a write under way: a disk may keep one for ever. */
const patienceMs = 2000;

/**
 * The thread's whole program. A string: a module of its own would be loaded through the TypeScript loader in development,
 * which costs half a second a thread, and under another name once built.
 */
const program = `
const { parentPort, workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const words = new Int32Array(workerData.control);
const position = new Float64Array(workerData.control, 16, 1);
const data = new Uint8Array(workerData.data);
for (let seen = 0; ; ) {
  Atomics.wait(words, 0, seen);
  seen = Atomics.load(words, 0);
  if (words[1] < 0) break;
  try {
    for (let at = 0; at < words[2]; ) {
      at += writeSync(words[1], data, at, words[2] - at, position[0] + at);
    }
    parentPort.postMessage("");
  } catch (thrown) {
    parentPort.postMessage(String(thrown.message));
  }
  Atomics.store(words, 3, seen);
  Atomics.notify(words, 3);
}
`;

export class WriteThread {
  readonly #worker: Worker;
  /** Count of requests, descriptor (negative: end), length, count of requests done; then the position as a float. */
  readonly #words: Int32Array;
  readonly #position: Float64Array;
  readonly #data: Uint8Array;
  #pending: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #failure: Error | undefined;
  /** The end is to be sent as soon as the write under way is over. */
  #isEnding = false;
  readonly #onProcessExit = () => this.#processExits();

  private constructor() {
    const control = new SharedArrayBuffer(24);
    const data = new SharedArrayBuffer(pieceBytes);
    this.#words = new Int32Array(control, 0, 4);
    this.#position = new Float64Array(control, 16, 1);
    this.#data = new Uint8Array(data);
    this.#worker = new Worker(program, {
      eval: true,
      execArgv: [],
      name: "journal",
      workerData: { control, data },
    });
    this.#worker.on("message", (problem: string) => {
      this.#settle(problem === "" ? undefined : new Error(problem));
    });
    this.#worker.on("error", (error: Error) => this.#end(error));
    this.#worker.on("exit", () => {
      process.off("exit", this.#onProcessExit);
      this.#end(new Error("the journal's thread has ended"));
    });
    process.on("exit", this.#onProcessExit);
  }

  static async start(): Promise<WriteThread> {
    const thread = new WriteThread();
    await once(thread.#worker, "online");
    return thread;
  }

  /** Writes all of `bytes`; resolves when the descriptor's own rule (O_DSYNC) holds. One call at a time. */
  write(descriptor: number, bytes: Uint8Array, position: number): Promise<void> {
    return bytes.length <= pieceBytes
      ? this.#writePiece(descriptor, bytes, position)
      : this.#writePieces(descriptor, bytes, position);
  }

  async #writePieces(descriptor: number, bytes: Uint8Array, position: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      await this.#writePiece(descriptor, bytes.subarray(at, at + pieceBytes), position + at);
    }
  }

  #writePiece(descriptor: number, bytes: Uint8Array, position: number): Promise<void> {
    assert(this.#pending === undefined, "two writes at a time");
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#data.set(bytes);
    this.#words[1] = descriptor;
    this.#words[2] = bytes.length;
    this.#position[0] = position;
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      this.#wake();
    });
  }

  /**
   * Ends the thread, after the write under way.
   * @throws WeirError `Unavailable` when that does not end: it may still reach the disk, as long as this process lives
   */
  async stop(): Promise<void> {
    if (this.#failure !== undefined) return;
    if (this.#pending === undefined) this.#sendEnd();
    else this.#isEnding = true;
    const signal = AbortSignal.timeout(patienceMs);
    try {
      await once(this.#worker, "exit", { signal });
    } catch (cause) {
      if (!signal.aborted) throw cause;
      this.#worker.unref();
      throw new WeirError(
        "Unavailable",
        "Cannot end the journal's thread: the disk keeps a write",
        { cause },
      );
    }
  }

  /** Node would wait for the thread, which nothing but the death of the process frees from a write that hangs. */
  #processExits(): void {
    if (this.#pending === undefined) return;
    const asked = Atomics.load(this.#words, 0);
    const done = Atomics.load(this.#words, 3);
    if (done === asked || Atomics.wait(this.#words, 3, done, patienceMs) !== "timed-out") return;
    process.kill(process.pid, "SIGKILL");
  }

  #sendEnd(): void {
    this.#words[1] = -1;
    this.#wake();
  }

  #wake(): void {
    Atomics.add(this.#words, 0, 1);
    Atomics.notify(this.#words, 0);
  }

  #settle(error: Error | undefined): void {
    const pending = this.#pending;
    this.#pending = undefined;
    if (this.#isEnding && this.#failure === undefined) {
      this.#failure = new Error("the journal's thread has ended");
      this.#sendEnd();
    }
    if (error === undefined) pending?.resolve();
    else pending?.reject(error);
  }

  #end(error: Error): void {
    this.#failure ??= error;
    this.#settle(this.#failure);
  }
}
