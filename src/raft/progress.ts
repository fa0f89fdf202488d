/**
 * What a leader knows of one follower, and how much it may send to it.
 *
 * - `probe`: where the logs part is not known; one append at a time, the next one after a reply or a heartbeat's.
 * - `replicate`: appends are sent ahead of their acknowledgements, a few at a time.
 * - `snapshot`: the follower is behind the log; nothing but heartbeats until a snapshot is there.
 *
 * Invariants
 * 1. match < next; the follower's log agrees with the leader's up to `match`, durably.
 * 2. `inflight` holds, in order, the last indexes of appends that are sent and not acknowledged, `inflightBytes` the
 *    payload of all of them.
 */
import type { Index, NodeId } from "./types.ts";

export class Progress {
  readonly id: NodeId;
  state: "probe" | "replicate" | "snapshot" = "probe";
  /** Highest index known to be on the follower's disk. Never falls within a term. */
  match = 0 as Index;
  /** Next index to send. */
  next: Index;
  /** In `probe`: an append is out, wait for its reply or for a heartbeat's. */
  probeSent = false;
  inflight: { readonly lastIndex: Index; readonly bytes: number }[] = [];
  inflightBytes = 0;
  /** Ticks since it was heard from in this term. */
  silentTicks = Number.MAX_SAFE_INTEGER;
  /** Highest read token that the follower has answered in this term. */
  readToken = 0;
  /** Highest commit index that the follower was told. */
  commitSent = 0;
  /** In `snapshot` after a failure: ticks until the next attempt. */
  retryTicks = 0;
  /** Of a node that is a member no more: ticks for which it still hears that it was removed. */
  leavingTicks: number | undefined;

  // How well it keeps up: a round lasts until it holds what was the leader's last index at the round's start.
  #roundTarget = 0;
  #roundTicks = 0;
  /** Ticks of its last rounds in a row that were each shorter than an election timeout, in which it always answered. */
  steadyTicks = 0;

  constructor(id: NodeId, next: Index) {
    this.id = id;
    this.next = next;
  }

  /** Something came from it, in this term; at most `ticksAgo` ticks ago. */
  heard(ticksAgo = 0): void {
    this.silentTicks = ticksAgo;
  }

  /** True when it was heard from within so many ticks. */
  isActive(withinTicks: number): boolean {
    return this.silentTicks <= withinTicks;
  }

  /** One tick of the leader, whose log ends at `lastIndex`. */
  tick(lastIndex: Index, electionTicks: number): void {
    if (this.silentTicks < Number.MAX_SAFE_INTEGER) this.silentTicks++;
    if (this.retryTicks > 0) this.retryTicks--;
    const isFollowing = this.state === "replicate" && this.isActive(electionTicks);
    this.#roundTicks++;
    const isQuick = this.#roundTicks < electionTicks;
    if (!isFollowing || !isQuick) this.steadyTicks = 0;
    if (this.match < this.#roundTarget) return;
    // A round counts when it is over: one that has begun may still turn out to be long.
    if (isFollowing && isQuick) this.steadyTicks += this.#roundTicks;
    this.#roundTarget = lastIndex;
    this.#roundTicks = 0;
  }

  /** Takes note of an append of these entries that is on its way. */
  sent(lastIndex: Index, bytes: number): void {
    this.next = (lastIndex + 1) as Index;
    this.inflight.push({ lastIndex, bytes });
    this.inflightBytes += bytes;
  }

  becomeProbe(next = (this.match + 1) as Index): void {
    this.state = "probe";
    this.#forgetInflight();
    this.next = next > this.match ? next : ((this.match + 1) as Index);
  }

  becomeReplicate(): void {
    this.state = "replicate";
    this.#forgetInflight();
    this.next = (this.match + 1) as Index;
  }

  becomeSnapshot(): void {
    this.state = "snapshot";
    this.#forgetInflight();
  }

  /** Takes note of an acknowledgement; returns whether it told anything new. */
  acknowledge(index: Index): boolean {
    if (this.next <= index) this.next = (index + 1) as Index;
    let acknowledged = 0;
    while (acknowledged < this.inflight.length && this.inflight[acknowledged]!.lastIndex <= index) {
      this.inflightBytes -= this.inflight[acknowledged]!.bytes;
      acknowledged++;
    }
    if (acknowledged > 0) this.inflight.splice(0, acknowledged);
    if (index <= this.match) return false;
    this.match = index;
    return true;
  }

  #forgetInflight(): void {
    this.probeSent = false;
    this.inflight = [];
    this.inflightBytes = 0;
  }
}
