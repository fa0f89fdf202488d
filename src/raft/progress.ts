/**
 * What a leader knows of one follower, and how much it may send to it.
 *
 * - `probe`: where the logs part is not known; one append at a time, the next one after a reply or a heartbeat's.
 * - `replicate`: appends are sent ahead of their acknowledgements, a few at a time.
 * - `snapshot`: the follower is behind the log; nothing but heartbeats until a snapshot is there.
 *
 * Invariants
 * 1. match < next; the follower's log agrees with the leader's up to `match`, durably.
 * 2. `inflight` holds, in order, the last indexes of appends that are sent and not acknowledged.
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
  inflight: Index[] = [];
  /** Heard from since the last check of the quorum. */
  active = false;
  /** Highest read token that the follower has answered in this term. */
  readToken = 0;
  /** Highest commit index that the follower was told. */
  commitSent = 0;
  /** In `snapshot` after a failure: ticks until the next attempt. */
  retryTicks = 0;

  constructor(id: NodeId, next: Index) {
    this.id = id;
    this.next = next;
  }

  becomeProbe(next = (this.match + 1) as Index): void {
    this.state = "probe";
    this.probeSent = false;
    this.inflight = [];
    this.next = next > this.match ? next : ((this.match + 1) as Index);
  }

  becomeReplicate(): void {
    this.state = "replicate";
    this.probeSent = false;
    this.inflight = [];
    this.next = (this.match + 1) as Index;
  }

  becomeSnapshot(): void {
    this.state = "snapshot";
    this.probeSent = false;
    this.inflight = [];
  }

  /** Takes note of an acknowledgement; returns whether it told anything new. */
  acknowledge(index: Index): boolean {
    if (this.next <= index) this.next = (index + 1) as Index;
    let acknowledged = 0;
    while (acknowledged < this.inflight.length && this.inflight[acknowledged]! <= index) {
      acknowledged++;
    }
    if (acknowledged > 0) this.inflight.splice(0, acknowledged);
    if (index <= this.match) return false;
    this.match = index;
    return true;
  }
}
