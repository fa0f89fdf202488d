/** A state machine that keeps what it applied, on a disk of its own that `crash` keeps to the last flush. */
import type { StateMachineHost } from "../../../src/raft/node.ts";
import type { Entry } from "../../../src/raft/types.ts";

interface Item {
  readonly index: number;
  readonly term: number;
  readonly text: string;
  /** Of an entry that changes the members: its payload in base64. */
  readonly configuration?: string;
}

export class ListMachine implements StateMachineHost {
  items: Item[];
  appliedIndex: number;
  appliedTerm: number;
  /** Entries that it applied since it was made. */
  appliedCount = 0;
  #durable: { items: Item[]; index: number; term: number };
  /** Bytes of the chunks that were read of snapshots so far. */
  snapshotBytesRead = 0;
  /** Called before each apply. */
  beforeApply: () => Promise<void> = () => Promise.resolve();

  constructor(
    durable: { items: Item[]; index: number; term: number } = { items: [], index: 0, term: 0 },
  ) {
    this.#durable = durable;
    this.items = [...durable.items];
    this.appliedIndex = durable.index;
    this.appliedTerm = durable.term;
  }

  /** Texts of the commands, in order. */
  get texts(): string[] {
    return this.items.map((item) => item.text).filter((text) => text !== "");
  }

  async apply(entries: readonly Entry[]): Promise<void> {
    await this.beforeApply();
    for (const { index, term, kind, payload } of entries) {
      if (index !== this.appliedIndex + 1)
        throw new Error(`applied ${index} at ${this.appliedIndex}`);
      const bytes = Buffer.from(payload);
      this.items.push(
        kind === "configuration"
          ? { index, term, text: "", configuration: bytes.toString("base64") }
          : { index, term, text: bytes.toString() },
      );
      this.appliedIndex = index;
      this.appliedTerm = term;
      this.appliedCount++;
    }
  }

  configuration(): { index: number; payload: Uint8Array } | undefined {
    const last = this.items.findLast((item) => item.configuration !== undefined);
    return last && { index: last.index, payload: Buffer.from(last.configuration!, "base64") };
  }

  flush(): void {
    this.#durable = { items: [...this.items], index: this.appliedIndex, term: this.appliedTerm };
  }

  /** What a restart finds. */
  crash(): ListMachine {
    return new ListMachine(this.#durable);
  }

  flushedIndex(): { index: number; term: number } {
    return this.#durable;
  }

  /** Size of a snapshot as of now. */
  get snapshotBytes(): number {
    return this.#durable.items.reduce((sum, item) => sum + JSON.stringify(item).length, 0);
  }

  async snapshot() {
    const { items, index, term } = this.#durable;
    const read = (bytes: number) => {
      this.snapshotBytesRead += bytes;
    };
    return {
      meta: { index, term },
      async *chunks() {
        for (const item of items) {
          const chunk = Buffer.from(JSON.stringify(item));
          read(chunk.length);
          yield chunk;
        }
      },
      close: () => Promise.resolve(),
    };
  }

  async install(meta: { index: number; term: number }, chunks: AsyncIterable<Uint8Array>) {
    const items: Item[] = [];
    for await (const chunk of chunks) items.push(JSON.parse(Buffer.from(chunk).toString()) as Item);
    this.items = items;
    this.appliedIndex = meta.index;
    this.appliedTerm = meta.term;
    this.flush();
  }
}
