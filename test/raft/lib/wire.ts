/** A connection in memory, whose bytes a test may cut off, change or hold back. */
import { Duplex } from "node:stream";
import type { Socket } from "node:net";

/** What happens when so many bytes went one way. */
export interface WireFault {
  /** `cut`: both ends see it end; `hang`: nothing passes any more, nobody is told; `flip`: one bit arrives changed. */
  readonly kind: "cut" | "hang" | "flip";
  readonly way: "there" | "back";
  readonly afterBytes: number;
}

class End extends Duplex {
  other: End | undefined;
  #fault: WireFault | undefined;
  #bytes = 0;
  #isHung = false;
  #resume: (() => void) | undefined;

  constructor(fault: WireFault | undefined) {
    super();
    this.#fault = fault;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  override _read(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, whenTaken: () => void): void {
    if (this.#isHung) return;
    const other = this.other!;
    const at = (this.#fault?.afterBytes ?? Number.POSITIVE_INFINITY) - this.#bytes;
    this.#bytes += chunk.length;
    const isHit = at < chunk.length;
    const kind = isHit ? this.#fault!.kind : undefined;
    const arriving = Buffer.from(kind === "cut" || kind === "hang" ? chunk.subarray(0, at) : chunk);
    if (isHit) this.#fault = undefined;
    if (kind === "flip") arriving[at] = arriving[at]! ^ 1;
    if (kind === "hang") this.#isHung = true;
    if (kind === "cut") setImmediate(() => this.destroy());
    if (other.destroyed || other.push(arriving)) whenTaken();
    else other.#resume = whenTaken;
  }

  override _destroy(error: Error | null, whenDone: (error: Error | null) => void): void {
    if (!this.#isHung) setImmediate(() => this.other?.destroy());
    whenDone(error);
  }
}

/** Both ends of a new connection; `there` is from the first to the second. */
export function wire(fault: WireFault | undefined): readonly [Socket, Socket] {
  const one = new End(fault?.way === "there" ? fault : undefined);
  const two = new End(fault?.way === "back" ? fault : undefined);
  one.other = two;
  two.other = one;
  return [one as unknown as Socket, two as unknown as Socket];
}
