/** A leadership that is being handed over: who is to have it, and whether it went. */
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { RaftCore } from "../core.ts";
import type { TransferStarted } from "../transfer.ts";
import type { NodeId } from "../types.ts";

export class HandOver {
  readonly #clock: Clock;
  readonly #longestMs: number;
  #heir: { readonly nodeId: NodeId; readonly untilMs: number } | undefined;
  readonly #waiting = new Set<() => void>();

  /** `longestMs`: after that nobody has taken it, and nobody is expected to. */
  constructor(options: { readonly clock: Clock; readonly longestMs: number }) {
    this.#clock = options.clock;
    this.#longestMs = options.longestMs;
  }

  /** Whom the leadership was handed to, until somebody is known to lead or it has not worked. */
  get heir(): NodeId | undefined {
    const heir = this.#heir;
    return heir === undefined || this.#clock.monotonicMs() > heir.untilMs ? undefined : heir.nodeId;
  }

  /**
   * Hands it to `target`, or to whom the core chooses; resolves when this node leads no more.
   * @throws WeirError what the core refuses with; `Unavailable` when nobody took it
   */
  async begin(
    driver: { readonly core: RaftCore; transfer(to: NodeId | undefined): TransferStarted },
    target: NodeId | undefined,
  ): Promise<void> {
    const started = driver.transfer(target);
    if (!started.ok) throw new WeirError(started.code, started.reason);
    this.#heir = {
      nodeId: started.target,
      untilMs: this.#clock.monotonicMs() + this.#longestMs,
    };
    await new Promise<void>((resolve, reject) => {
      const check = () => {
        if (driver.core.role === "leader") return;
        finish();
        resolve();
      };
      const finish = () => {
        cancel();
        this.#waiting.delete(check);
      };
      const cancel = this.#clock.after(this.#longestMs, () => {
        finish();
        reject(new WeirError("Unavailable", "Cannot hand over: no follower took the leadership"));
      });
      this.#waiting.add(check);
    });
  }

  /** To be called when role, term or leader changed, before others are told. */
  observe(core: RaftCore): void {
    if (core.leader !== undefined && core.leader !== core.id) this.#heir = undefined;
  }

  /** To be called after others were told: who waits goes on. */
  release(): void {
    for (const check of this.#waiting) check();
  }
}
