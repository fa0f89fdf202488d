/**
 * What a long-lived process writes to its standard output and standard error. Where that goes is not in its hands: a full
 * disk, a pipe whose reader went or stalls.
 *
 * 1. Nothing here throws, emits an error, or waits longer than `patienceMs`: text that is not taken is lost.
 * 2. What waits to be written is bounded.
 */
import { write, writeSync } from "node:fs";

/** What waits beyond that is lost. */
const waitingLimitBytes = 1024 * 1024;
/** How long an end of the process waits for a reader. */
const patienceMs = 200;
const retryMs = 20;
const newline = 0x0a;

/**
 * `process.stdout` or `process.stderr`, of which only the descriptor is used: a write of theirs that fails is an uncaught
 * error. That they were looked at makes a pipe non-blocking, so that one nobody reads cannot stop the process.
 */
interface Descriptor {
  readonly fd: number;
}

/** Writes at once, or as much of it as is taken soon; for what a process says at its start and its end. */
export function writeOrLose({ fd }: Descriptor, text: string): void {
  writeBytesOrLose(fd, Buffer.from(text));
}

function writeBytesOrLose(fd: number, bytes: Buffer): void {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  let rest = bytes;
  for (let waitedMs = 0; rest.length > 0 && waitedMs < patienceMs; ) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if (!isBusy(error)) return;
      Atomics.wait(clock, 0, 0, retryMs);
      waitedMs += retryMs;
    }
  }
}

function isBusy(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "EAGAIN";
}

/** Lines written one write after the other, without a wait of the process for any. */
export class LineOutput {
  readonly #fd: number;
  readonly #onLost: (lines: number) => void;
  #waiting: string[] = [];
  #waitingBytes = 0;
  /** What the write under way, or the next try, is to write. */
  #rest: Buffer = Buffer.alloc(0);
  #writing = false;
  /** A line was begun and lost: the next one must not go on in it. */
  #torn = false;
  #lost = 0;

  /** @param onLost told how many lines were lost as soon as one is written again; it may write one itself */
  constructor({ fd }: Descriptor, onLost: (lines: number) => void) {
    this.#fd = fd;
    this.#onLost = onLost;
    process.on("exit", () => this.#writeLast());
  }

  /** Takes a line with its end, and never throws. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#waitingBytes + bytes > waitingLimitBytes) {
      this.#lost++;
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += bytes;
    if (this.#rest.length === 0) this.#next();
  }

  #next(): void {
    this.#rest = this.#takeWaiting();
    if (this.#rest.length > 0) this.#writeRest();
  }

  #takeWaiting(): Buffer {
    const text = this.#waiting.join("");
    this.#waiting = [];
    this.#waitingBytes = 0;
    return Buffer.from(this.#torn && text !== "" ? `\n${text}` : text);
  }

  #writeRest(): void {
    this.#writing = true;
    write(this.#fd, this.#rest, (error, written) => {
      this.#writing = false;
      if (error === null) this.#onWritten(written);
      else if (isBusy(error)) setTimeout(() => this.#writeRest(), retryMs).unref();
      else this.#lose();
    });
  }

  #onWritten(written: number): void {
    if (written > 0) this.#torn = this.#rest[written - 1] !== newline;
    this.#rest = this.#rest.subarray(written);
    if (this.#rest.length > 0) {
      this.#writeRest();
      return;
    }
    const lost = this.#lost;
    this.#lost = 0;
    if (lost > 0) this.#onLost(lost);
    // Unless that began a write already.
    if (this.#rest.length === 0) this.#next();
  }

  #lose(): void {
    for (const byte of this.#rest) if (byte === newline) this.#lost++;
    this.#next();
  }

  /** What is under way is left to its write: it ends with the process. */
  #writeLast(): void {
    const rest = this.#writing ? Buffer.alloc(0) : this.#rest;
    writeBytesOrLose(this.#fd, Buffer.concat([rest, this.#takeWaiting()]));
  }
}
