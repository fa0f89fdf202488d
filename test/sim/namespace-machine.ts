/**
 * The product's namespace as the state machine of a simulated node: the machine as the host drives it, over a store in
 * memory that keeps to the contract of the one on disk. Snapshots of it are the real chunks.
 */
import { indexOfPosition, rootInodeId, type SessionId, type WorkerId } from "../../src/lib/ids.ts";
import { decodeConfiguration } from "../../src/raft/configuration-codec.ts";
import type { Entry } from "../../src/raft/types.ts";
import { decode, encode } from "../../src/lib/schema.ts";
import {
  type Command,
  type CommandResult,
  type EntryPayload,
  entryPayload,
  newestLevel,
} from "../../src/rpc/commands.ts";
import { type AppliedEvent, MachineHost } from "../../src/master/services/machine-host.ts";
import { applyEntry } from "../../src/master/state/machine.ts";
import { MemoryStateStore } from "../lib/memory-state-store.ts";
import { sessionCount } from "./session-rows.ts";
import type { ClientRequest, Image, Outcome, StateMachine } from "./state-machine.ts";
import { require } from "./violation.ts";

/** The worker that keeps what is written. */
export const registered: Extract<Command, { kind: "registerWorker" }> = {
  kind: "registerWorker",
  uuid: "worker",
  host: "127.0.0.1",
  address: "127.0.0.1:1",
  tiers: [],
};
export const workerId = 1 as WorkerId;

/** What every cluster begins with, as if index 0 had made it: the root, a worker, and sessions 1 to `sessionCount`. */
function begin(): MemoryStateStore {
  const store = new MemoryStateStore();
  const open: Command = { kind: "openSession", clientName: "client", timeoutMs: 10_000 };
  const commands: Command[] = [
    {
      kind: "bootstrap",
      clusterId: "simulated",
      clusterName: "simulated",
      blockSizeBytes: 100,
      rootUri: "file:///root",
      rootOptions: {},
      uid: 0,
      gid: 0,
    },
    ...Array.from({ length: sessionCount }, () => open),
    // Behind the sessions: their ids are their places.
    { kind: "raiseLevel", level: newestLevel },
    registered,
    { kind: "loadPage", directory: rootInodeId, entries: [], listedAtIndex: 1, last: true },
  ];
  const entry = entryOf({ session: 0, sequence: 0, acknowledgedBelow: 0 }, { commands });
  const { results } = applyEntry(store, 0, decode(entryPayload, entry, "entry"));
  require(results[0]!.every(({ ok }) => ok), () => `no beginning: ${JSON.stringify(results)}`);
  void store.flush();
  return store;
}

const noTime = { clusterTimeMs: 0, wallTime: { sec: 1_700_000_000, nsec: 0 } };

/** An entry with one request. */
export function entryOf(
  { session, sequence, acknowledgedBelow }: ClientRequest,
  {
    commands,
    atomic = false,
  }: { readonly commands: readonly Command[]; readonly atomic?: boolean },
  time: Pick<EntryPayload, "clusterTimeMs" | "wallTime"> = noTime,
): Uint8Array {
  const id = session as SessionId;
  const request = { session: id, sequence, acknowledgedBelow, atomic, commands };
  return encode(entryPayload, { ...time, requests: [request] });
}

/** Results as text: undefined fields are none. */
export function answerOf(results: readonly CommandResult[]): string {
  return JSON.stringify(results);
}

/** With which the session table refuses what its session is past. */
const refusals: readonly string[] = ["SessionExpired", "SequenceForgotten"];

export class NamespaceMachine implements StateMachine {
  #store: MemoryStateStore;
  #host: MachineHost;
  #event: AppliedEvent | undefined;

  constructor() {
    this.#store = begin().crash();
    this.#host = this.#newHost();
  }

  get store(): MemoryStateStore {
    return this.#store;
  }
  get index(): number {
    return this.#host.appliedIndex;
  }
  get hash(): string {
    return this.#store.hash();
  }
  get configuration(): StateMachine["configuration"] {
    const stored = this.#host.configuration();
    return stored && { index: stored.index, value: decodeConfiguration(stored.payload) };
  }
  get flushed(): StateMachine["flushed"] {
    return this.#host.flushedIndex();
  }

  restart(): void {
    this.#store = this.#store.crash();
    this.#host = this.#newHost();
  }

  async apply(entry: Entry): Promise<Outcome> {
    await this.#host.apply([entry]);
    const { payload, applied } = this.#event!;
    const request = payload?.requests[0];
    if (request === undefined || request.session === 0) {
      return { of: undefined, served: undefined, position: entry.index, answer: "" };
    }
    const results = applied!.results[0]!;
    const isRefused = results.every((result) => !result.ok && refusals.includes(result.code));
    return {
      of: request,
      served: applied!.replayed[0]! ? "replay" : isRefused ? "refuse" : "execute",
      position: indexOfPosition(applied!.positions[0]!),
      answer: answerOf(results),
    };
  }

  flush(): () => void {
    return () => void this.#store.flush();
  }

  snapshot(whenTaken: (image: Image) => void): void {
    const take = async () => {
      const snapshot = await this.#host.snapshot();
      const { meta } = snapshot;
      const all: Uint8Array[] = [];
      for await (const chunk of snapshot.chunks()) all.push(chunk);
      await snapshot.close();
      whenTaken({ ...meta, hash: meta.hash!, chunks: all });
    };
    void take();
  }

  async install({ index, term, hash, chunks }: Image): Promise<void> {
    async function* all() {
      yield* chunks;
    }
    const meta = hash === "" ? { index, term } : { index, term, hash: String(hash) };
    await this.#host.install(meta, all());
  }

  #newHost(): MachineHost {
    return new MachineHost({
      store: this.#store,
      onApplied: (event) => {
        this.#event = event;
      },
      onInstalled: () => undefined,
    });
  }
}
