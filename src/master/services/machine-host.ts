/**
 * The state machine as the consensus host drives it: applies committed entries to the store, tells what they did, and
 * hands out snapshots.
 *
 * Invariants
 * 1. Entries are applied in order, each once; the store's applied index moves with each, whatever its kind.
 * 2. State changes nowhere else.
 */
import { randomInt } from "node:crypto";
import { decode } from "../../lib/schema.ts";
import type { Entry } from "../../raft/types.ts";
import type { StateMachineHost } from "../../raft/node.ts";
import { type EntryPayload, entryPayload } from "../../rpc/commands.ts";
import { type AppliedEntry, applyEntry, rangesOf } from "../state/machine.ts";
import { NewNames } from "../state/new-names.ts";
import { configurationKey } from "../state/keys.ts";
import { storedConfiguration } from "../state/model.ts";
import { decodeChunk, encodeChunk } from "../store/chunk-codec.ts";
import type { KeyValue, StateStore } from "../store/types.ts";
import { abortError } from "./signals.ts";

/** What is told of each entry, right after it was applied. `payload` and `applied` are of a command alone. */
export interface AppliedEvent {
  readonly index: number;
  readonly term: number;
  readonly payload: EntryPayload | undefined;
  readonly applied: AppliedEntry | undefined;
}

export class MachineHost implements StateMachineHost {
  readonly #store: StateStore;
  readonly #onApplied: (event: AppliedEvent) => void;
  readonly #onInstalled: (index: number) => void;
  #newNames = new NewNames(randomInt(2 ** 32));
  #appliedTerm: number;
  /** Who waits for an index to be applied. */
  #waiting: { readonly index: number; resolve(): void }[] = [];

  constructor(options: {
    store: StateStore;
    onApplied: (event: AppliedEvent) => void;
    /** The state was replaced by a snapshot at `index`. */
    onInstalled: (index: number) => void;
  }) {
    this.#store = options.store;
    this.#onApplied = options.onApplied;
    this.#onInstalled = options.onInstalled;
    this.#appliedTerm = options.store.flushedTerm;
  }

  get appliedIndex(): number {
    return this.#store.appliedIndex;
  }

  get appliedTerm(): number {
    return this.#appliedTerm;
  }

  /** The last committed configuration, and the index of its entry; its bytes are the caller's to read, not to change. */
  configuration(): { readonly index: number; readonly payload: Uint8Array } | undefined {
    return this.#store.read(storedConfiguration, configurationKey);
  }

  async apply(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      if (entry.kind !== "command") {
        this.#onApplied(this.#skip(entry));
        continue;
      }
      const payload = decode(entryPayload, entry.payload, "entry");
      const ranges = rangesOf(payload, this.#store);
      // Most entries scan nothing: then the next one is applied in the same turn.
      if (ranges.length > 0) await this.#store.load(ranges);
      this.#onApplied(this.#applyCommand(entry, payload));
      if (ranges.length > 0) this.#store.release(ranges);
    }
    this.#wake();
  }

  /** Resolves when everything up to `index` is applied. Rejects with the signal's reason. */
  waitApplied(index: number, signal: AbortSignal): Promise<void> {
    if (this.appliedIndex >= index) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiter = {
        index,
        resolve: () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        this.#waiting = this.#waiting.filter((each) => each !== waiter);
        reject(abortError(signal, "Cannot wait for the state"));
      };
      if (signal.aborted) {
        onAbort();
        return;
      }
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** What of the log is on disk as state. */
  flushedIndex(): { index: number; term: number } {
    return { index: this.#store.flushedIndex, term: this.#store.flushedTerm };
  }

  async snapshot(): Promise<Awaited<ReturnType<StateMachineHost["snapshot"]>>> {
    const snapshot = await this.#store.snapshot();
    return {
      meta: { index: snapshot.index, term: snapshot.term, hash: snapshot.hash },
      async *chunks() {
        for await (const rows of snapshot.chunks()) yield encodeChunk(rows);
      },
      close: () => snapshot.close(),
    };
  }

  async install(
    meta: { index: number; term: number; hash?: string | undefined },
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    // What was learned is of the state that goes. Nothing is applied until the other one is there.
    this.#newNames = new NewNames(randomInt(2 ** 32));
    await this.#store.install(meta.index, meta.term, decodeChunks(chunks), meta.hash);
    this.#appliedTerm = meta.term;
    this.#onInstalled(meta.index);
    this.#wake();
  }

  #applyCommand({ index, term }: Entry, payload: EntryPayload): AppliedEvent {
    const applied = applyEntry(this.#store, index, payload, this.#newNames);
    this.#store.applied(index, term);
    this.#appliedTerm = term;
    return { index, term, payload, applied };
  }

  /** An entry without commands. What becomes of the members is kept, so that snapshots carry it. */
  #skip({ index, term, kind, payload: configuration }: Entry): AppliedEvent {
    if (kind === "configuration") {
      const payload = new Uint8Array(configuration);
      this.#store.write(storedConfiguration, configurationKey, { index, payload });
    }
    this.#store.applied(index, term);
    this.#appliedTerm = term;
    return { index, term, payload: undefined, applied: undefined };
  }

  #wake(): void {
    const applied = this.appliedIndex;
    if (this.#waiting.length === 0) return;
    const ready = this.#waiting.filter((each) => each.index <= applied);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((each) => each.index > applied);
    for (const each of ready) each.resolve();
  }
}

/** @throws WeirError `Corrupt` for a chunk that did not arrive as it was sent */
async function* decodeChunks(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<readonly KeyValue[], void, undefined> {
  for await (const chunk of chunks) yield decodeChunk(chunk);
}
