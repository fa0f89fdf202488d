/**
 * Log replication (section 5.3): the leader's appends and heartbeats, the followers' answers, and the commit index.
 *
 * The leader's appends are built once per turn, when the output is taken, so that all proposals of a turn travel
 * together.
 */
import assert from "node:assert/strict";
import { quorumValue } from "./configuration.ts";
import type { Progress } from "./progress.ts";
import { confirmReads } from "./reads.ts";
import { becomeFollower } from "./roles.ts";
import type { State } from "./state.ts";
import { handOver } from "./transfer.ts";
import type { Entry, Index, Message, NodeId } from "./types.ts";

type Append = Extract<Message, { kind: "append" }>;
type AppendReply = Extract<Message, { kind: "appendReply" }>;
type Heartbeat = Extract<Message, { kind: "heartbeat" }>;
type CommitNotice = Extract<Message, { kind: "commitNotice" }>;
type HeartbeatReply = Extract<Message, { kind: "heartbeatReply" }>;

// Follower

/** Takes a leader's entries. The reply leaves when they, and all before them, are on disk. */
export function onAppend(state: State, message: Append): void {
  followLeader(state, message.from);
  // As if it were lost: it comes again with a heartbeat.
  if (message.entries.length > 0 && state.isBehindWithApplying) return;
  const { log } = state;
  let { prevIndex, prevTerm } = message as { prevIndex: number; prevTerm: number };
  let { entries } = message;
  const lastIndex = prevIndex + entries.length;
  if (prevIndex < state.commitIndex) {
    // What is committed is the same everywhere, and may be compacted here: look only behind it.
    entries = entries.slice(state.commitIndex - prevIndex);
    prevIndex = state.commitIndex;
    prevTerm = log.termAt(prevIndex)!;
  }
  if (log.termAt(prevIndex) !== prevTerm) {
    const hint = log.lastAtOrBelow(prevIndex, prevTerm);
    state.sendWhenTermDurable(message.from, {
      kind: "appendReply",
      ok: false,
      index: message.prevIndex,
      hintIndex: hint.index,
      hintTerm: hint.term,
    });
    return;
  }
  takeEntries(state, entries);
  const index = Math.max(lastIndex, state.commitIndex) as Index;
  state.commitTo(Math.min(message.commit, index));
  state.sendWhenDurable(message.from, {
    kind: "appendReply",
    ok: true,
    index,
    hintIndex: index,
    hintTerm: state.log.termAt(index)!,
  });
}

function takeEntries(state: State, entries: readonly Entry[]): void {
  for (const entry of entries) {
    const known = state.log.termAt(entry.index);
    if (known === entry.term) continue;
    if (known !== undefined) {
      assert(entry.index > state.commitIndex, "a leader overwrites a committed entry");
      state.truncateLog(entry.index);
    }
    state.appendToLog(entry);
  }
}

export function onHeartbeat(state: State, message: Heartbeat): void {
  takeCommit(state, message);
  state.sendWhenTermDurable(message.from, {
    kind: "heartbeatReply",
    readToken: message.readToken,
  });
}

export function onCommitNotice(state: State, message: CommitNotice): void {
  takeCommit(state, message);
}

function takeCommit(state: State, { from, commit }: Heartbeat | CommitNotice): void {
  followLeader(state, from);
  assert(
    commit <= state.log.lastIndex,
    "this node acknowledged entries that it does not hold any more",
  );
  state.commitTo(commit);
}

/** A message of the current term that only its leader sends. */
function followLeader(state: State, leader: NodeId): void {
  assert.notEqual(state.role, "leader", "two leaders in one term");
  state.unansweredPreVote = undefined;
  if (state.role === "follower" && state.leader === leader) state.electionElapsed = 0;
  else becomeFollower(state, state.term, leader);
}

// Leader

export function onAppendReply(state: State, message: AppendReply): void {
  const progress = state.progress.get(message.from);
  if (progress === undefined || message.index > state.log.lastIndex) return;
  progress.heard();
  if (message.ok) acknowledged(state, progress, message.index);
  else refused(state, progress, message);
}

function acknowledged(state: State, progress: Progress, index: Index): void {
  const isNew = progress.acknowledge(index);
  if (progress.state === "probe") progress.becomeReplicate();
  else if (progress.state === "snapshot" && progress.match >= state.log.baseIndex) {
    // It caught up by itself, or the snapshot's own report was lost.
    progress.becomeReplicate();
  }
  if (isNew) advanceCommit(state);
  if (state.transferTarget === progress.id) handOver(state, progress);
}

function refused(state: State, progress: Progress, message: AppendReply): void {
  if (progress.state === "snapshot") return;
  if (progress.state === "replicate") {
    // Something sent ahead was lost. A refusal at or before `match` is an old one.
    if (message.index > progress.match) progress.becomeProbe();
    return;
  }
  if (message.index !== progress.next - 1) return;
  const agreed = state.log.lastAtOrBelow(message.hintIndex, message.hintTerm);
  progress.becomeProbe(Math.min(message.index, agreed.index + 1) as Index);
}

export function onHeartbeatReply(state: State, message: HeartbeatReply): void {
  const progress = state.progress.get(message.from);
  if (progress === undefined) return;
  progress.heard();
  progress.probeSent = false;
  if (message.readToken > progress.readToken) {
    progress.readToken = message.readToken;
    confirmReads(state);
  }
  // Entries sent ahead may all be lost, with nobody to say so: an empty append draws a refusal if they are.
  if (progress.state === "replicate" && progress.match < state.log.lastIndex) {
    sendAppend(state, progress, []);
  }
  if (state.transferTarget === progress.id) handOver(state, progress);
}

/** Once per turn: a round for the reads that wait, unless they share the next one with those that come meanwhile. */
export function startReads(state: State): void {
  const { reads, commitIndex, termStart } = state;
  if (reads.isWaiting && !reads.isUnderWay && commitIndex >= termStart) broadcastHeartbeat(state);
}

/** One round of heartbeats; reads that wait go with it when they may. */
export function broadcastHeartbeat(state: State): void {
  state.heartbeatElapsed = 0;
  if (state.commitIndex >= state.termStart) state.reads.startRound(state.commitIndex);
  for (const progress of state.progress.values()) sendHeartbeat(state, progress);
  confirmReads(state);
}

function sendHeartbeat(state: State, progress: Progress): void {
  const commit = commitFor(state, progress);
  progress.commitSent = commit;
  state.sendNow(progress.id, { kind: "heartbeat", commit, readToken: state.reads.token });
}

/**
 * Tells an idle follower of a new commit index. The next heartbeat would do so too, but reads of its own wait for it. That
 * one is to be answered; this is not: it comes as often as commits do.
 */
function sendCommitNotice(state: State, progress: Progress): void {
  const commit = commitFor(state, progress);
  if (commit <= progress.commitSent) return;
  progress.commitSent = commit;
  state.sendNow(progress.id, { kind: "commitNotice", commit });
}

/** Never beyond what the follower is known to hold: its suffix may be another one. */
function commitFor(state: State, progress: Progress): Index {
  return Math.min(progress.match, state.commitIndex) as Index;
}

/** Fills the windows of all followers, and tells idle ones of a new commit index. */
export function sendAppends(state: State): void {
  for (const progress of state.progress.values()) {
    if (progress.state === "snapshot") continue;
    if (progress.state === "probe") {
      if (!progress.probeSent) sendNext(state, progress);
      progress.probeSent = true;
      continue;
    }
    while (
      progress.next <= state.log.lastIndex &&
      progress.inflight.length < state.maxInflight &&
      progress.inflightBytes < state.maxInflightBytes
    ) {
      if (!sendNext(state, progress)) break;
    }
    sendCommitNotice(state, progress);
  }
}

/** Sends what comes next, or asks for a snapshot when that is not in the log any more. */
function sendNext(state: State, progress: Progress): boolean {
  if (progress.next <= state.log.baseIndex) {
    // Not to a follower that does not even answer heartbeats, nor to one that is leaving.
    const isWorthIt = progress.isActive(state.electionTicks) && progress.leavingTicks === undefined;
    if (isWorthIt && progress.retryTicks === 0) {
      progress.becomeSnapshot();
      state.snapshotsWanted.push(progress.id);
    }
    return false;
  }
  const entries = state.log.slice(progress.next, state.log.lastIndex + 1, state.maxAppendBytes);
  sendAppend(state, progress, entries);
  if (progress.state === "replicate" && entries.length > 0) {
    let bytes = 0;
    for (const entry of entries) bytes += entry.payload.length;
    progress.sent((progress.next + entries.length - 1) as Index, bytes);
  }
  return true;
}

function sendAppend(state: State, progress: Progress, entries: readonly Entry[]): void {
  const prevIndex = (progress.next - 1) as Index;
  const prevTerm = state.log.termAt(prevIndex);
  if (prevTerm === undefined) {
    // What was sent ahead is lost, and compacted away by now: look for where to go on, which takes a snapshot.
    progress.becomeProbe();
    return;
  }
  progress.commitSent = Math.min(prevIndex + entries.length, state.commitIndex);
  state.sendNow(progress.id, {
    kind: "append",
    prevIndex,
    prevTerm,
    entries,
    commit: state.commitIndex,
  });
}

/**
 * Commits what a quorum has on disk, this node's own disk counted like any other's. Only an entry of the current term is
 * committed by counting; it takes those before it along (section 5.4.2, Figure 8).
 */
export function advanceCommit(state: State): void {
  const index = quorumValue(state.configuration, (id) =>
    id === state.id ? state.durableIndex : (state.progress.get(id)?.match ?? 0),
  );
  if (index > state.commitIndex && state.log.termAt(index) === state.term) state.commitTo(index);
}

// Snapshots

/** What became of a snapshot to a follower. */
export function onSnapshotDone(
  state: State,
  from: NodeId,
  result: { ok: boolean; index: Index },
): void {
  const progress = state.progress.get(from);
  if (progress === undefined) return;
  if (result.ok) {
    progress.heard();
    if (result.index > state.log.lastIndex) return;
    if (progress.acknowledge(result.index)) advanceCommit(state);
    if (progress.state === "snapshot") progress.becomeProbe();
  } else if (progress.state === "snapshot") {
    progress.becomeProbe();
    // Wait a while: what failed once would most likely fail again at once.
    progress.retryTicks = state.electionTicks;
  }
}
