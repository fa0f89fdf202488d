/** Bugs of what drives the consensus core: turns, writes, timers, snapshots, and how a cluster begins. */
import type { Mutant } from "./mutant.ts";

const driver = ["test/raft/host-cases.test.ts test/raft/driver.test.ts"];
const node = [...driver, "test/raft/node.test.ts"];

const snapshots = ["test/raft/snapshot-transfer.test.ts"];
const sender = ["test/raft/snapshot-sender.test.ts"];
const kept = [
  "test/raft/log-weight.test.ts test/raft/driver.test.ts test/raft/node-snapshots.test.ts",
];
const fullDisk = ["test/raft/full-disk.test.ts"];
const handshake = ["test/raft/handshake.test.ts"];
const members = ["test/raft/node-membership.test.ts test/raft/node.test.ts"];

export const hostMutants: readonly Mutant[] = [
  {
    name: "sends what waits for a write when the write begins",
    file: "src/raft/host/persister.ts",
    find: "const isWritten = await this.#write(work);",
    replace:
      "this.#options.send(work.messages);\n      work.messages = [];\n      const isWritten = await this.#write(work);",
    suites: driver,
  },
  {
    name: "sends what waits for a write before those in front of it",
    file: "src/raft/host/persister.ts",
    find: "if (persist === undefined && this.#running === undefined) {",
    replace: "if (persist === undefined) {",
    suites: driver,
  },
  {
    name: "goes on after the journal failed",
    file: "src/raft/host/persister.ts",
    find: "        this.#isStopped = true;\n        this.#options.onFatal(error);",
    replace: "        void error;",
    suites: driver,
  },
  {
    name: "keeps entries that a later write of the same group replaces",
    file: "src/raft/host/persister.ts",
    find: "joined.length = Math.min(joined.length, Math.max(0, first.index - start));",
    replace: "void start;",
    suites: driver,
  },
  {
    name: "drops a vote when a write of entries without one follows in the same group",
    file: "src/raft/host/persister.ts",
    find: "head.hardState = next.hardState ?? head.hardState;",
    replace: "head.hardState = next.hardState;",
    suites: driver,
  },
  {
    name: "does not vote while the disk is full",
    file: "src/raft/host/persister.ts",
    find: "    this.#options.send(batch.messages.filter(isVote));\n",
    replace: "",
    suites: driver,
  },
  {
    name: "ticks before it looks at the messages that have arrived",
    file: "src/raft/host/driver.ts",
    find: '    for (const message of inbox) core.step({ kind: "receive", message });',
    replace:
      '    if (this.#isTickDue) this.#tick();\n    for (const message of inbox) core.step({ kind: "receive", message });',
    suites: driver,
  },
  {
    name: "makes up for a pause with as many ticks",
    file: "src/raft/host/ticker.ts",
    find: "lateMs < tickMs ? tickMs : lateMs + tickMs;",
    replace: "tickMs;",
    suites: driver,
  },
  {
    name: "goes on leading while its disk stalls",
    file: "src/raft/host/driver.ts",
    find: 'if (isStalled && core.role === "leader") {',
    replace: 'if (isStalled && core.role === "candidate") {',
    suites: driver,
  },
  {
    name: "campaigns while its disk stalls",
    file: "src/raft/host/driver.ts",
    find: 'core.step({ kind: "tick", hold: isStalled });',
    replace: 'core.step({ kind: "tick" });',
    suites: driver,
  },
  {
    name: "compacts what the state machine has not on its disk",
    file: "src/raft/host/driver.ts",
    find: "const flushed = machine.flushedIndex().index;",
    replace: "const flushed: number = core.appliedIndex;",
    suites: node,
  },
  {
    name: "applies again what a snapshot brought",
    file: "src/raft/host/applier.ts",
    find: "all[0]!.index > appliedIndex ? all : all.filter((e) => e.index > appliedIndex);",
    replace: "appliedIndex < 0 ? [] : all;",
    suites: node,
  },
  {
    name: "lets a compaction pass the reset before it",
    file: "src/raft/host/persister.ts",
    find: "      if (reset !== undefined) return 0;\n",
    replace: "",
    suites: fullDisk,
  },
  {
    name: "compacts entries that wait for room on the disk",
    file: "src/raft/host/persister.ts",
    find: "while (this.#compactions.length > 0 && this.#compactions[0]!.index <= held) {",
    replace: "void held;\n    while (this.#compactions.length > 0) {",
    suites: fullDisk,
  },
  {
    name: "has a reset wait for room for the entries that it forgets",
    file: "src/raft/host/persister.ts",
    find: "    if (this.#fullSinceMs !== undefined) this.#giveUpBeforeReset();\n",
    replace: "",
    suites: fullDisk,
  },
  {
    name: "acknowledges entries that were given up for a reset",
    file: "src/raft/host/persister.ts",
    find: "before.flatMap(({ messages }) => messages.filter(isVote));",
    replace: "before.flatMap(({ messages }) => messages);",
    suites: fullDisk,
  },
  {
    name: "gives up a term and a vote with the entries before a reset",
    file: "src/raft/host/persister.ts",
    find: "    first.hardState ??= before.findLast(",
    replace: "    void before.findLast(",
    suites: fullDisk,
  },
  {
    name: "has a reset wait for room for the entries behind it",
    file: "src/raft/host/persister.ts",
    find: "    if (head.reset === undefined) {\n",
    replace: "    if (count === 1) {\n",
    suites: fullDisk,
  },
  {
    name: "holds everything back behind a compaction that has to wait",
    file: "src/raft/host/persister.ts",
    find: "        if (next.reset !== undefined) break;",
    replace: "        if (next.reset !== undefined || this.#compactions.length > 0) break;",
    suites: fullDisk,
  },
  // Snapshots
  {
    name: "keeps the log without end for who gets a snapshot",
    file: "src/raft/host/driver.ts",
    find: "const floor = Math.max(snapshotFloor((tail + core.lastIndex) / 2), atMostHeld);",
    replace: "const floor = snapshotFloor((tail + core.lastIndex) / 2);\n    void atMostHeld;",
    suites: kept,
  },
  {
    name: "keeps the log for ever for who installed a snapshot and gets no further",
    file: "src/raft/host/snapshot-sender.ts",
    find: "const isStuck = nowMs - progress.advancedMs >= keepMs;",
    replace: "const isStuck = nowMs < 0;",
    suites: sender,
  },
  {
    name: "keeps a snapshot anew with each attempt that breaks",
    file: "src/raft/host/snapshot-sender.ts",
    find: "const restMs = held.advancedMs + keepMs - clock.monotonicMs();",
    replace: "const restMs = keepMs;",
    suites: sender,
  },
  {
    name: "forgets the log that a follower needs behind the snapshot that it just got",
    file: "src/raft/host/snapshot-sender.ts",
    find: "        this.#catchingUp.set(to, { match: held.snapshot.meta.index, advancedMs });\n",
    replace: "        void advancedMs;\n",
    suites: sender,
  },
  {
    name: "installs what its disk changed of a spooled snapshot",
    file: "src/raft/host/snapshot-spool.ts",
    find: "if (crc32(chunk) !== header.readUInt32BE(4)) throw this.#damaged(at);",
    replace: "",
    suites: snapshots,
  },
  {
    name: "goes on behind other chunks than the receiver has",
    file: "src/raft/host/snapshot-sender.ts",
    find: "    if (isSame) return;\n",
    replace: '    if (isSame || to !== "") return;\n',
    suites: snapshots,
  },
  {
    name: "goes on with what another snapshot has left",
    file: "src/raft/host/snapshot-receiver.ts",
    find: "if (kept !== undefined && id !== undefined && kept.id === id) {",
    replace: "if (kept !== undefined && id !== undefined) {",
    suites: snapshots,
  },
  {
    name: "keeps a spooled snapshot that cannot be installed",
    file: "src/raft/host/snapshot-receiver.ts",
    find: "const isUseless = partial.id === undefined || !isOfConnection(error);",
    replace: "const isUseless = partial.id === undefined || error === undefined;",
    suites: snapshots,
  },
  {
    name: "installs a snapshot that is behind its own state",
    file: "src/raft/host/snapshot-receiver.ts",
    find: "if (meta.index <= machine.appliedIndex) return;",
    replace: "",
    suites: snapshots,
  },
  {
    name: "holds a snapshot for ever that was sent",
    file: "src/raft/host/snapshot-sender.ts",
    find: "    await held.snapshot.close();\n",
    replace: "    void held.snapshot;\n",
    suites: snapshots,
  },
  // Who is at the other end
  {
    name: "hears a node of another cluster",
    file: "src/raft/host/handshake.ts",
    find: "caller.clusterId !== self.clusterId\n",
    replace: 'caller.clusterId === ""\n',
    suites: handshake,
  },
  {
    name: "hears a copy of its own data",
    file: "src/raft/host/handshake.ts",
    find: "    caller.nodeId === self.nodeId &&\n",
    replace: '    caller.nodeId === "" &&\n',
    suites: handshake,
  },
  {
    name: "does not tell whom a name is bound to",
    file: "src/raft/host/handshake.ts",
    find: "const boundTo = roster.boundTo(caller.name);",
    replace: "const boundTo = undefined;",
    suites: handshake,
  },
  {
    name: "hears a node that was removed",
    file: "src/raft/host/handshake.ts",
    find: "if (roster.wasRemoved(caller.nodeId, caller.knownAt)) {",
    replace: 'if (caller.nodeId === "") {',
    suites: [...handshake, ...members],
  },
  {
    name: "begins a second cluster where some masters hold data",
    file: "src/raft/host/formation.ts",
    find: "    return clusters.size > 0;\n",
    replace: "    return clusters.size > 1;\n",
    suites: members,
  },
  {
    name: "takes itself for nobody ever when it was removed before the last change that it reads at once",
    file: "src/raft/configuration-history.ts",
    find: "const settled = this.#placed.slice(0, -1);",
    replace: "const settled = this.#placed.slice(-2, -1);",
    suites: ["test/raft/members.test.ts"],
  },
  {
    name: "writes down one move at a time, also of members that have exchanged their addresses",
    file: "src/raft/host/moves.ts",
    find: "const possible = this.#possible(moves);",
    replace: "const possible = this.#possible(moves.slice(0, 1));",
    suites: members,
  },
  {
    name: "tells a voter to remove its data where a member that lags does not know it yet",
    file: "src/raft/host/part.ts",
    find: "this.driver.core.leader === undefined && !this.members.isMember;",
    replace: "this.driver.core.leader === undefined;",
    suites: members,
  },
  {
    name: "believes members that are away that they do not know this node",
    file: "src/raft/transport.ts",
    find: "isOpen && this.#disowning.has(id)",
    replace: "isOpen !== undefined && this.#disowning.has(id)",
    suites: ["test/raft/disowning.test.ts"],
  },
];
