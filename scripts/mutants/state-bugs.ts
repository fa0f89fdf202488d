/** Bugs of the state machine, the store below it and the proposer above it. */
import type { Mutant } from "./mutant.ts";

const once = ["test/master/state/exactly-once.test.ts test/master/state/cases.test.ts"];
const machine = [
  "test/master/state/exactly-once.test.ts test/master/state/namespace.test.ts test/master/state/lineage.test.ts",
  "test/master/state/tree-model.test.ts",
];
const store = [
  "test/master/store/cases.test.ts test/master/store/contract.test.ts test/master/store/level-store.test.ts test/master/store/parts.test.ts test/master/store/rot.test.ts test/master/store/leveldb-check.test.ts",
];
const backup = ["test/integration/backup.test.ts"];
const proposer = [
  "test/master/services/proposer.test.ts test/master/services/proposer-cases.test.ts",
];

const loading = ["test/master/state/load.test.ts"];

export const stateMutants: readonly Mutant[] = [
  {
    name: "takes away a name that is on its way into the store",
    file: "src/master/state/load-commands.ts",
    find: "if (context.state.get(arrivalKey(directory.id, name)) !== undefined) return false;",
    replace: "",
    suites: loading,
  },
  {
    name: "takes away whatever has the name now",
    file: "src/master/state/load-commands.ts",
    find: "if (edgeOf(context.state, directory.id, name)?.child !== inode) return false;",
    replace: "if (edgeOf(context.state, directory.id, name) === undefined) return false;",
    suites: loading,
  },
  {
    name: "takes away what is in no store yet",
    file: "src/master/state/load-commands.ts",
    find: `if (of.mountPoint || of.persistence !== "persisted" || of.lease !== undefined) return true;`,
    replace: "if (of.mountPoint || of.lease !== undefined) return true;",
    suites: loading,
  },
  {
    name: "takes the copy of a further name for the file's object",
    file: "src/master/state/load-commands.ts",
    find: "if (isFirst) refresh(context, of, entry);",
    replace: "refresh(context, of, entry);",
    suites: loading,
  },
  {
    name: "executes a request a second time",
    file: "src/master/state/session-table.ts",
    find: "if (known !== undefined) {",
    replace: "if (known !== undefined && of.sequence < 0) {",
    suites: once,
  },
  {
    name: "executes a request whose answer was acknowledged",
    file: "src/master/state/session-table.ts",
    find: "if (of.sequence < found.prunedBelow) {",
    replace: "if (of.sequence < 0) {",
    suites: once,
  },
  {
    name: "executes requests of a session that is over",
    file: "src/master/state/session-table.ts",
    find: "if (found === undefined || found.closing) {",
    replace: "if (found === undefined) {",
    suites: once,
  },
  {
    name: "forgets an answer that was not acknowledged",
    file: "src/master/state/session-table.ts",
    find: "const prunedBelow = Math.max(found.prunedBelow, Math.min(of.acknowledgedBelow, of.sequence));",
    replace: "const prunedBelow = Math.max(found.prunedBelow, of.sequence);",
    suites: once,
  },
  {
    name: "keeps answers that were acknowledged",
    file: "src/master/state/session-table.ts",
    find: "    state.delete(key);\n",
    replace: "",
    suites: once,
  },
  {
    name: "keeps no answer to a request that was refused",
    file: "src/master/state/machine.ts",
    find: "remember(at.state, request, { position, results });",
    replace:
      "if (results.every(({ ok }) => ok)) remember(at.state, request, { position, results });",
    suites: once,
  },
  {
    name: "answers a repeated request with the place of the repetition",
    file: "src/master/state/machine.ts",
    find: "return { results: admission.results, position: admission.position, replayed: true };",
    replace: "return { results: admission.results, position, replayed: true };",
    suites: once,
  },
  {
    name: "lets cluster time go back",
    file: "src/master/state/machine.ts",
    find: "clusterTimeMs: Math.max(before.clusterTimeMs, entry.clusterTimeMs),",
    replace: "clusterTimeMs: entry.clusterTimeMs,",
    suites: machine,
  },
  {
    name: "lets wall time go back",
    file: "src/master/state/machine.ts",
    find: "wallTime: isLater(entry.wallTime, before.wallTime) ? entry.wallTime : before.wallTime,",
    replace: "wallTime: entry.wallTime,",
    suites: machine,
  },
  {
    name: "keeps the writes of a refused command",
    file: "src/master/state/machine.ts",
    find: "    if (undo) {\n      savepoint.rollback();",
    replace: "    if (undo) {\n      savepoint.commit();",
    suites: machine,
  },
  {
    name: "keeps the first commands of an atomic request of which a later one is refused",
    file: "src/master/state/machine.ts",
    find: "    if (!result.ok) {\n      savepoint.rollback();",
    replace: "    if (!result.ok) {\n      savepoint.commit();",
    suites: machine,
  },
  {
    name: "lets clients propose what only the leader may",
    file: "src/master/state/machine.ts",
    find: "if (context.session !== 0 && leaderOnly.has(command.kind)) {",
    replace: "if (context.session < 0 && leaderOnly.has(command.kind)) {",
    suites: machine,
  },
  // Store
  {
    name: "flushes without saying which entry the state reflects",
    file: "src/master/store/flusher.ts",
    find: "await batch.write({ index, term, hash });",
    replace: "await batch.write({ index: 0, term: 0, hash });",
    suites: store,
  },
  {
    name: "says that more is flushed than is",
    file: "src/master/store/flusher.ts",
    find: "    this.#inFlight = undefined;\n    this.#index = index;",
    replace: "    this.#inFlight = undefined;\n    this.#index = this.#overlay.appliedIndex;",
    suites: store,
  },
  {
    name: "says the hash of an earlier flush",
    file: "src/master/store/flusher.ts",
    find: "    this.#term = term;\n    this.#digest = digest;\n",
    replace: "    this.#term = term;\n",
    suites: store,
  },
  {
    name: "says the hash of what is applied as that of what is flushed",
    file: "src/master/store/level-store.ts",
    find: "return this.#flusher.digest;",
    replace: "return this.#flusher.hash();",
    suites: store,
  },
  {
    name: "flushes in the middle of an entry",
    file: "src/master/store/overlay.ts",
    find: "return this.#appliedIndex > this.#sealedIndex && !this.#isWithinEntry;",
    replace: "return this.#appliedIndex > this.#sealedIndex;",
    suites: store,
  },
  {
    name: "changes over to a snapshot in the heap only",
    file: "src/master/store/replacement.ts",
    find: "    await pointTo(directory, next);\n",
    replace: "    void pointTo;\n",
    suites: store,
  },
  {
    name: "does not have LevelDB sync its batches",
    file: "src/master/store/database.ts",
    find: "await batch.write({ sync: true });",
    replace: "await batch.write({ sync: false });",
    suites: store,
  },
  {
    name: "installs a snapshot whose rows are not those that it sums up to",
    file: "src/master/store/replacement.ts",
    find: "if (wanted.hash !== undefined && hash !== wanted.hash) {",
    replace: 'if (hash === "") {',
    suites: store,
  },
  {
    name: "takes a damaged chunk of a snapshot",
    file: "src/master/store/chunk-codec.ts",
    find: "chunk.readUInt32BE(0) !== crc32(chunk.subarray(4))",
    replace: "crc32(chunk) < 0",
    suites: store,
  },
  {
    name: "answers rows that the disk has changed",
    file: "src/master/store/summed-row.ts",
    find: "return sum === hash.low ? value : undefined;",
    replace: "return value;",
    suites: store,
  },
  {
    name: "goes on with a disk that has changed a row",
    file: "src/master/store/database.ts",
    find: "    this.onDamage?.(error);\n",
    replace: "",
    suites: store,
  },
  {
    name: "takes rows that say nothing of their entry for an empty state",
    file: "src/master/store/database.ts",
    find: "if (first !== undefined) throw",
    replace: "if (first === null) throw",
    suites: store,
  },
  {
    name: "opens LevelDB's files unseen",
    file: "src/master/store/database.ts",
    find: "if (found !== undefined) throw damage(path, found);",
    replace: "void found;",
    suites: store,
  },
  {
    name: "takes damage in LevelDB's log for its torn end",
    file: "src/master/store/leveldb-log.ts",
    find: "if (type === full || type === first) return true;",
    replace: "if (type === full || type === first) return false;",
    suites: store,
  },
  {
    name: "takes LevelDB's torn log for a damaged one",
    file: "src/master/store/leveldb-check.ts",
    find: "return broken?.isDamage === true ? broken.offset : undefined;",
    replace: "return broken?.offset;",
    suites: store,
  },
  {
    name: "looks at tables that a crash left and nobody reads",
    file: "src/master/store/leveldb-check.ts",
    find: "} else if (live.tables.has(number)) {",
    replace: "} else if (number !== -1) {",
    suites: store,
  },
  {
    name: "does not name the older log that was cut short while a later one goes on",
    file: "src/master/store/leveldb-check.ts",
    find: "i < lastUsed ? broken?.offset : damageIn(log);",
    replace: "damageIn(log);",
    suites: store,
  },
  {
    name: "opens a state whose logs lack an append between them",
    file: "src/master/store/leveldb-check.ts",
    find: "if (next !== undefined && sequence !== next) {",
    replace: "if (next !== undefined && sequence < 0n) {",
    suites: store,
  },
  {
    name: "opens a state whose older log is empty",
    file: "src/master/store/leveldb-check.ts",
    find: "if (i < lastUsed && appends.length === 0) return at(name, 0);",
    replace: "if (i < lastUsed && appends.length < 0) return at(name, 0);",
    suites: store,
  },
  {
    name: "opens a state whose first log is missing",
    file: "src/master/store/leveldb-check.ts",
    find: "if (live.firstLog > 0 && !logs.some(",
    replace: "if (live.firstLog < 0 && !logs.some(",
    suites: store,
  },
  {
    name: "takes a torn log for damage when an empty one is behind it",
    file: "src/master/store/leveldb-check.ts",
    find: "const lastUsed = logs.findLastIndex(({ appends }) => appends.length > 0);",
    replace: "const lastUsed = logs.length - 1;",
    suites: store,
  },
  {
    name: "begins an empty database where the log of one has lost its name",
    file: "src/master/store/leveldb-check.ts",
    find: "/\\.(ldb|sst|log)$/.test(name)",
    replace: "/\\.(ldb|sst)$/.test(name)",
    suites: store,
  },
  {
    name: "keeps the cells of writes that were taken back",
    file: "src/master/store/savepoints.ts",
    find: "        active.truncate(cellCount);\n",
    replace: "        void cellCount;\n",
    suites: store,
  },
  {
    name: "does not find what is written after something was scanned and taken back",
    file: "src/master/store/generation.ts",
    find: "this.#sortedUpTo = Math.min(this.#sortedUpTo, count);",
    replace: "void count;",
    suites: store,
  },
  {
    name: "sorts all changed keys for the first who reads a few",
    file: "src/master/store/sorted-keys.ts",
    find: "if (Math.min(below.length, others.length) < keys.length * leastPart) return undefined;",
    replace: "if (below.length * leastPart >= 0) return undefined;",
    suites: store,
  },
  {
    name: "forgets keys that come behind a piece that was sorted",
    file: "src/master/store/sorted-keys.ts",
    find: "      piece.isSorted = false;\n",
    replace: "",
    suites: store,
  },
  {
    name: "leaves those hanging who wait for a flush while the store is closed",
    file: "src/master/store/flusher.ts",
    find: "for (const waiter of this.#waiters.splice(0)) waiter.reject(closed);",
    replace: "void closed;",
    suites: store,
  },
  {
    name: "begins a snapshot of a store that is being closed",
    file: "src/master/store/level-store.ts",
    find: "    // It may be closing by now.\n    this.#assertOpen();\n",
    replace: "",
    suites: store,
  },
  {
    name: "sums up LevelDB's blocks from their first whole word on",
    file: "src/master/store/crc32c.ts",
    find: "byByte(-1, bytes, start, wordsAt)",
    replace: "byByte(-1, bytes, start, start)",
    suites: store,
  },
  {
    name: "leaves deleted rows in the sum over the state",
    file: "src/master/store/state-hash.ts",
    find: "    this.#low = (this.#low - row.low) | 0;\n",
    replace: "",
    suites: store,
  },
  {
    name: "restores a backup to which something was appended",
    file: "src/master/backup/read.ts",
    find: "if ((await this.#file.stat()).size !== this.offset) {",
    replace: "if ((await this.#file.stat()).size < 0) {",
    suites: backup,
  },
  // Proposer
  {
    name: "answers with the results of an entry that replaced its own",
    file: "src/master/services/proposer.ts",
    find: "if (entry.term !== term || payload === undefined || applied === undefined) {",
    replace: "if (payload === undefined || applied === undefined) {",
    suites: proposer,
  },
  {
    name: "updates its table of sessions when it proposes a request, not when that is applied",
    file: "src/master/services/proposer.ts",
    find: "      const more = waiting.request.commands.length;\n",
    replace: `      const more = waiting.request.commands.length;
      const { session, sequence } = waiting.request;
      const table = ((this as any).table ??= new Set<string>());
      if (session !== 0 && table.has(session + "/" + sequence)) {
        waiting.resolve({ position: 0 as any, results: [] });
        continue;
      }
      table.add(session + "/" + sequence);
`,
    suites: proposer,
  },
  {
    name: "lets cluster time of its proposals go back",
    file: "src/master/services/proposer.ts",
    find: "const clusterTimeMs = Math.max(this.#lastClusterTimeMs, this.#leadership.clusterTimeMs());",
    replace: "const clusterTimeMs = this.#leadership.clusterTimeMs();",
    suites: proposer,
  },
  {
    name: "says that a request was not applied though nobody knows",
    file: "src/master/services/proposer.ts",
    find: `new WeirError("Unavailable", "Cannot tell whether the command was committed", {
            outcome: "unknown",`,
    replace: `new WeirError("Unavailable", "Cannot tell whether the command was committed", {
            outcome: "notApplied",`,
    suites: proposer,
  },
];
