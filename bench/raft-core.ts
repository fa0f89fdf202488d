/**
 * Proposals per second through three cores in memory: no disk, no network, no state machine; what consensus itself costs,
 * its messages as bytes included. Each turn proposes a batch on the leader; messages and writes are carried out at once.
 */
import { performance } from "node:perf_hooks";
import { seededRandom } from "../src/lib/clock.ts";
import { type Output, RaftCore } from "../src/raft/core.ts";
import { decodeMessage, encodeMessage } from "../src/raft/messages.ts";
import type { Index, Term } from "../src/raft/types.ts";
import { type Figure, figure } from "./figure.ts";

const payloadBytes = 256;
const proposalsPerTurn = 256;
const durationMs = 3000;
const warmUpMs = 500;

/** The figures of `npm run bench -- raft-core`. */
export function run(): Promise<Figure[]> {
  const ids = ["n1", "n2", "n3"];
  const cores = new Map(
    ids.map((id, place) => [
      id,
      new RaftCore({
        id,
        configuration: { voters: ids, outgoing: [], learners: [] },
        hardState: { term: 0 as Term, vote: undefined },
        entries: [],
        baseIndex: 0 as Index,
        baseTerm: 0 as Term,
        appliedIndex: 0 as Index,
        electionTicks: 10,
        heartbeatTicks: 3,
        random: seededRandom(place + 1),
      }),
    ]),
  );
  const leader = cores.get("n1")!;
  while (leader.role !== "leader") {
    leader.step({ kind: "tick" });
    settle(cores);
  }
  const payload = Buffer.alloc(payloadBytes, 1);
  const turn = () => {
    for (let i = 0; i < proposalsPerTurn; i++) {
      if (!leader.propose(payload).ok) throw new Error("the leader refuses a proposal");
    }
    settle(cores);
    for (const core of cores.values()) core.step({ kind: "compact", index: core.appliedIndex });
  };
  const warmUntilMs = performance.now() + warmUpMs;
  while (performance.now() < warmUntilMs) turn();
  const first = leader.appliedIndex;
  const startMs = performance.now();
  while (performance.now() - startMs < durationMs) turn();
  const seconds = (performance.now() - startMs) / 1000;
  const value = Math.round((leader.appliedIndex - first) / seconds);
  const setup = `3 cores in memory, messages encoded, ${payloadBytes} B, ${proposalsPerTurn} outstanding, no fsync`;
  return Promise.resolve([figure("raft-core", "proposal", value, "proposals/s", setup)]);
}

/** Carries out outputs until there are none. */
function settle(cores: ReadonlyMap<string, RaftCore>): void {
  for (let isBusy = true; isBusy; ) {
    isBusy = false;
    for (const core of cores.values()) isBusy = carryOut(core, core.take(), cores) || isBusy;
  }
}

function carryOut(core: RaftCore, output: Output, cores: ReadonlyMap<string, RaftCore>): boolean {
  const { persist, send, sendAfterPersist, apply } = output;
  if (persist !== undefined) core.step({ kind: "persisted", sequence: persist.sequence });
  if (apply.length > 0) core.step({ kind: "applied", index: apply[apply.length - 1]!.index });
  for (const messages of [send, sendAfterPersist]) {
    for (const sent of messages) {
      const message = decodeMessage(encodeMessage(sent), sent.from, sent.to);
      cores.get(sent.to)!.step({ kind: "receive", message });
    }
  }
  return persist !== undefined || send.length + sendAfterPersist.length > 0;
}
