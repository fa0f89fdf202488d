/** Bugs of what drives the consensus core: turns, writes, timers, snapshots, and how a cluster begins. */
import type { Mutant } from "./mutant.ts";

const driver = ["test/raft/host-cases.test.ts test/raft/driver.test.ts"];
const node = [...driver, "test/raft/node.test.ts"];

export const hostMutants: readonly Mutant[] = [
  {
    name: "sends what waits for a write when the write begins",
    file: "src/raft/host/persister.ts",
    find: "} else if (await this.#write(work)) {",
    replace:
      "} else if ((this.#options.send(work.messages), (work.messages = []), await this.#write(work))) {",
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
];
