/** Bugs of the consensus core, most of them found in other implementations (see docs/testing.md for the cases). */
import type { Mutant } from "./mutant.ts";

const units =
  "test/raft/core.test.ts test/raft/membership.test.ts test/raft/follower-reads.test.ts " +
  "test/raft/cases.test.ts test/raft/log.test.ts test/raft/quorum.test.ts " +
  "test/raft/gone.test.ts test/raft/transfer.test.ts test/raft/starting-log.test.ts";
const bounds = ["test/raft/bounds.test.ts"];
const suites = [units, "test/raft/transcripts.test.ts", "sim 60 2500"];

export const coreMutants: readonly Mutant[] = [
  // Commit
  {
    name: "commits an entry of an earlier term by counting",
    file: "src/raft/replication.ts",
    find: "if (index > state.commitIndex && state.log.termAt(index) === state.term) state.commitTo(index);",
    replace: "if (index > state.commitIndex) state.commitTo(index);",
    suites,
  },
  {
    name: "counts the own disk before it has written",
    file: "src/raft/replication.ts",
    find: "id === state.id ? state.durableIndex : (state.progress.get(id)?.match ?? 0),",
    replace: "id === state.id ? state.log.lastIndex : (state.progress.get(id)?.match ?? 0),",
    suites,
  },
  {
    name: "counts a write for entries that replaced what was written",
    file: "src/raft/state.ts",
    find: "pending.lastIndex = Math.min(pending.lastIndex, index - 1);",
    replace: "void pending;",
    suites,
  },
  {
    name: "applies what is committed and not on the own disk",
    file: "src/raft/application.ts",
    find: "const end = Math.min(state.commitIndex, state.durableIndex);",
    replace: "const end = state.commitIndex;",
    suites,
  },
  {
    name: "tells a follower of a commit beyond what it is known to hold",
    file: "src/raft/replication.ts",
    find: "return Math.min(progress.match, state.commitIndex) as Index;",
    replace: "return state.commitIndex;",
    suites,
  },
  {
    name: "commits beyond what an append has shown to agree",
    file: "src/raft/replication.ts",
    find: "state.commitTo(Math.min(message.commit, index));",
    replace: "state.commitTo(Math.min(message.commit, state.log.lastIndex));",
    suites,
  },
  // Votes and terms
  {
    name: "does not write its vote",
    file: "src/raft/election.ts",
    find: "state.setHardState(state.term, from);",
    replace: "state.vote = from;",
    suites,
  },
  {
    name: "lets a vote leave before it is on the disk",
    file: "src/raft/election.ts",
    find: 'state.sendWhenDurable(from, { kind: "voteReply", preVote, granted });',
    replace: 'state.sendNow(from, { kind: "voteReply", preVote, granted });',
    suites,
  },
  {
    name: "counts its own vote before it is on the disk",
    file: "src/raft/roles.ts",
    find: "state.setHardState((state.term + 1) as Term, state.id);",
    replace:
      "state.setHardState((state.term + 1) as Term, state.id);\n  state.votes.set(state.id, true);",
    suites,
  },
  {
    name: "asks for votes before its own is on the disk",
    file: "src/raft/election.ts",
    find: "if (preVote) state.sendNow(to, body, term);",
    replace: "if (term > 0) state.sendNow(to, body, term);",
    suites,
  },
  {
    name: "erases its vote when it steps down in the same term",
    file: "src/raft/roles.ts",
    find: "if (term > state.term) state.setHardState(term, undefined);",
    replace: "state.setHardState(term, undefined);",
    suites,
  },
  {
    name: "votes for a log of the same last term that is shorter",
    file: "src/raft/log.ts",
    find: "(term === this.lastTerm && index >= this.lastIndex)",
    replace: "term === this.lastTerm",
    suites,
  },
  {
    name: "votes though it hears its leader",
    file: "src/raft/receive.ts",
    find: "if (state.hearsLeader && !message.transfer) {",
    replace: "if (state.term < 0) {",
    suites,
  },
  {
    name: "raises its term for a pre-vote",
    file: "src/raft/receive.ts",
    find: "if (message.preVote) return true;",
    replace: "",
    suites,
  },
  {
    name: "goes on leading when no quorum answers",
    file: "src/raft/tick.ts",
    find: "if (!state.isAnsweredBy(state.configuration)) {",
    replace: "if (state.term === 0) {",
    suites,
  },
  {
    name: "does not tell a candidate of the past its own term",
    file: "src/raft/receive.ts",
    find: `    case "requestVote":
      state.sendWhenTermDurable(message.from, {`,
    replace: `    case "requestVote":
      if (state.term > 0) return;
      state.sendWhenTermDurable(message.from, {`,
    suites,
  },
  {
    name: "believes that its leader's process has ended, and does not ask the others first",
    file: "src/raft/election.ts",
    find: "hurry(state, 1 + state.turn * state.heartbeatTicks);",
    replace: "campaignForReal(state, true);",
    suites,
  },
  {
    name: "takes the end of any member for the end of its leader",
    file: "src/raft/election.ts",
    find: 'if (state.role !== "follower" || state.leader !== node) return;',
    replace: 'if (state.role !== "follower") return;',
    suites,
  },
  {
    name: "gives up an election that has begun, in the hurry after its leader's process has ended",
    file: "src/raft/state.ts",
    find: "this.electionTimeout = this.electionTicks + 2 * this.heartbeatTicks * this.turn;",
    replace: "this.electionTimeout = 2 * this.heartbeatTicks * (1 + this.turn);",
    suites,
  },
  {
    name: "gives up its own election for one that cannot win",
    file: "src/raft/election.ts",
    find: 'state.goneTicks > 0 && state.role === "follower") {',
    replace: "state.goneTicks > 0) {",
    suites,
  },
  {
    name: "campaigns at the same time as all others whom one asked that cannot win",
    file: "src/raft/election.ts",
    find: "hurry(state, 1 + state.turnWithout(from) * state.heartbeatTicks);",
    replace: "hurry(state, 1);",
    suites,
  },
  {
    name: "answers a pre-vote of long ago when its leader's process has ended",
    file: "src/raft/replication.ts",
    find: "  state.unansweredPreVote = undefined;\n",
    replace: "",
    suites,
  },
  // Replication
  {
    name: "acknowledges entries before they are on the disk",
    file: "src/raft/replication.ts",
    find: `  state.sendWhenDurable(message.from, {
    kind: "appendReply",
    ok: true,`,
    replace: `  state.sendNow(message.from, {
    kind: "appendReply",
    ok: true,`,
    suites,
  },
  {
    name: "keeps a conflicting suffix",
    file: "src/raft/replication.ts",
    find: "if (known === entry.term) continue;",
    replace: "if (known !== undefined) continue;",
    suites,
  },
  {
    name: "truncates entries that agree",
    file: "src/raft/replication.ts",
    find: "if (known === entry.term) continue;",
    replace: "",
    suites,
  },
  {
    name: "goes back one entry at a time to find where the logs part",
    file: "src/raft/replication.ts",
    find: "progress.becomeProbe(Math.min(message.index, agreed.index + 1) as Index);",
    replace: "progress.becomeProbe(message.index);",
    suites,
  },
  {
    name: "goes back further than where the logs part",
    file: "src/raft/log.ts",
    find: "this.#at(at)!.term > term",
    replace: "this.#at(at)!.term >= term",
    suites,
  },
  {
    name: "forgets a follower when everything in flight to it was lost",
    file: "src/raft/replication.ts",
    find: 'if (progress.state === "replicate" && progress.match < state.log.lastIndex) {',
    replace: 'if (progress.state === "snapshot") {',
    suites,
  },
  {
    name: "believes a refusal that is older than an acknowledgement",
    file: "src/raft/replication.ts",
    find: "if (message.index !== progress.next - 1) return;",
    replace: "",
    suites,
  },
  {
    name: "takes entries without end while its state machine is behind",
    file: "src/raft/replication.ts",
    find: "if (message.entries.length > 0 && state.isBehindWithApplying) return;",
    replace: "",
    suites: bounds,
  },
  {
    name: "counts what is not committed for a state machine that is behind, and may take nothing more",
    file: "src/raft/state.ts",
    find: "this.applyCursor - this.appliedIndex >= this.maxUnappliedEntries ||",
    replace: "this.log.lastIndex - this.appliedIndex >= this.maxUnappliedEntries ||",
    suites: bounds,
  },
  {
    name: "lets reads pile up at a leader that cannot commit yet",
    file: "src/raft/reads.ts",
    find: "    ...state.reads.tick(ownReadTimeouts * electionTicks, electionTicks),\n",
    replace: "",
    suites: bounds,
  },
  {
    name: "sends without a window",
    file: "src/raft/replication.ts",
    find: "progress.inflight.length < state.maxInflight",
    replace: "progress.inflight.length < 1_000_000",
    suites,
  },
  // Snapshots
  {
    name: "keeps a log that conflicts with a snapshot",
    file: "src/raft/application.ts",
    find: "if (state.log.termAt(index) !== term) {",
    replace: "if (index > state.log.lastIndex) {",
    suites,
  },
  {
    name: "drops acknowledged entries behind a snapshot that its log agrees with",
    file: "src/raft/application.ts",
    find: "if (state.log.termAt(index) !== term) {",
    replace: "if (index > 0) {",
    suites,
  },
  {
    name: "waits for ever for a snapshot that failed",
    file: "src/raft/replication.ts",
    find: `  } else if (progress.state === "snapshot") {
    progress.becomeProbe();`,
    replace: `  } else if (progress.state === "snapshot") {`,
    suites,
  },
  {
    name: "takes the journal's log though the state machine is ahead of it",
    file: "src/raft/starting-log.ts",
    find: "if (term === applied.term) return { entries, baseIndex, baseTerm };",
    replace:
      "if (term === applied.term || term === undefined) return { entries, baseIndex, baseTerm };",
    suites,
  },
  {
    name: "keeps a configuration that went with the log that a snapshot replaced",
    file: "src/raft/application.ts",
    find: "state.configurations.reset(\n        state.commitIndex,",
    replace: "state.configurations.reset(\n        index,",
    suites,
  },
  // Reads
  {
    name: "confirms reads before an entry of its own term is committed",
    file: "src/raft/replication.ts",
    find: "if (state.commitIndex >= state.termStart) state.reads.startRound(state.commitIndex);",
    replace: "state.reads.startRound(state.commitIndex);",
    suites,
  },
  {
    name: "confirms a read by an answer to an earlier round",
    file: "src/raft/read-index.ts",
    find: "this.#rounds[0]!.token <= token",
    replace: "this.#rounds[0]!.token <= token + 1",
    suites,
  },
  {
    name: "answers reads without asking a quorum",
    file: "src/raft/reads.ts",
    find: "id === state.id ? state.reads.token : (state.progress.get(id)?.readToken ?? 0),",
    replace: 'id === "" ? (state.progress.get(id)?.readToken ?? 0) : state.reads.token,',
    suites,
  },
  {
    name: "answers a follower's request for a read a second time",
    file: "src/raft/forwarded-reads.ts",
    find: "return place < 0 ? [] : this.#requests.splice(place, 1)[0]!.ids;",
    replace: "return place < 0 ? [] : this.#requests[place]!.ids;",
    suites,
  },
  {
    name: "answers reads without a quorum while it hands over, as if nobody else could lead yet",
    file: "src/raft/reads.ts",
    find: "id === state.id ? state.reads.token : (state.progress.get(id)?.readToken ?? 0),",
    replace:
      "id === state.id || state.transferTarget !== undefined ? state.reads.token : (state.progress.get(id)?.readToken ?? 0),",
    suites,
  },
  // Transfer
  {
    name: "hands over to a voter that lacks entries",
    file: "src/raft/transfer.ts",
    find: "if (progress.match === state.log.lastIndex) state.sendNow",
    replace: "if (progress.match > 0) state.sendNow",
    suites,
  },
  {
    name: "takes commands while it hands over",
    file: "src/raft/core.ts",
    find: `      state.transferTarget !== undefined ||
      !state.isVoter ||`,
    replace: `      !state.isVoter ||`,
    suites,
  },
  // Members
  {
    name: "takes a majority of either half for one of both",
    file: "src/raft/configuration.ts",
    find: ": Math.min(incoming, majorityValue(configuration.outgoing, valueOf));",
    replace: ": Math.max(incoming, majorityValue(configuration.outgoing, valueOf));",
    suites,
  },
  {
    name: "counts learners",
    file: "src/raft/configuration.ts",
    find: "const incoming = majorityValue(configuration.voters, valueOf);",
    replace:
      "const incoming = majorityValue([...configuration.voters, ...configuration.learners], valueOf);",
    suites,
  },
  {
    name: "lets a learner campaign",
    file: "src/raft/configuration.ts",
    find: "return configuration.voters.includes(id) || configuration.outgoing.includes(id);",
    replace: "return membersOf(configuration).includes(id);",
    suites,
  },
  {
    name: "refuses a vote because it takes itself for a learner",
    file: "src/raft/election.ts",
    find: "isFree && term >= state.term",
    replace: "state.mayCampaign && isFree && term >= state.term",
    suites,
  },
  {
    name: "counts itself though it was removed",
    file: "src/raft/replication.ts",
    find: "export function advanceCommit(state: State): void {\n  const index = quorumValue(state.configuration,",
    replace:
      "export function advanceCommit(state: State): void {\n  const { voters } = state.configuration;\n  const index = quorumValue({ ...state.configuration, voters: [...new Set([...voters, state.id])] },",
    suites,
  },
  {
    name: "goes on leading after its removal",
    file: "src/raft/membership.ts",
    find: "if (state.isVoter || commitIndex < configurations.activeIndex) return;",
    replace: "if (commitIndex >= 0) return;",
    suites,
  },
  {
    name: "changes members before an entry of its own term is committed",
    file: "src/raft/membership.ts",
    find: "if (state.commitIndex < state.termStart) {",
    replace: "if (state.commitIndex < 0) {",
    suites,
  },
  {
    name: "changes voters one by one, without joint consensus, before its no-op is committed",
    file: "src/raft/membership.ts",
    find: `  const hindrance = whatHinders(state);
  if (hindrance !== undefined) return refuse("Busy", \`Cannot change the members: \${hindrance}\`);
  const planned = planChange(state.configuration, change);
  if (!planned.ok) return refuse("InvalidArgument", planned.reason);
  const { configuration } = planned;
`,
    replace: `  if (isChanging(state)) return refuse("Busy", whatHinders(state) ?? "");
  const planned = planChange(state.configuration, change);
  if (!planned.ok) return refuse("InvalidArgument", planned.reason);
  const configuration = { ...planned.configuration, outgoing: [] };
`,
    suites: ["test/raft/membership-model.test.ts"],
  },
  {
    name: "begins a change of members while another is under way",
    file: "src/raft/membership.ts",
    find: 'if (isChanging(state)) return "another change is under way";',
    replace: "",
    suites,
  },
  {
    name: "leaves joint consensus before it is committed",
    file: "src/raft/membership.ts",
    find: "    commitIndex >= configurations.activeIndex &&\n",
    replace: "",
    suites,
  },
  {
    name: "does not roll a configuration back with its entry",
    file: "src/raft/state.ts",
    find: "this.configurations.truncateFrom(index);",
    replace: "",
    suites,
  },
  {
    name: "promotes a learner that does not keep up",
    file: "src/raft/membership.ts",
    find: 'return progress?.state === "replicate" && progress.isActive(state.electionTicks);',
    replace: "return progress !== undefined;",
    suites,
  },
  {
    name: "forgets at its restart which members the log has",
    file: "src/raft/state.ts",
    find: "    for (const entry of options.entries) {",
    replace: "    for (const entry of options.entries.slice(0, 0)) {",
    suites,
  },
  {
    name: "moves two members to one address",
    file: "src/raft/member-change.ts",
    find: "const at = next ?? other;",
    replace: "if (next !== undefined) continue;\n    const at = other;",
    suites,
  },
];
