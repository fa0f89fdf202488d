/**
 * A process that appends to a journal until it is killed. It writes one line per acknowledged batch to standard output:
 * the last index and the term that are durable now.
 */
import { writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { openJournal } from "../../src/journal/journal.ts";
import type { Entry, Index, Term } from "../../src/raft/types.ts";

/** Payload of an entry, told by its index: some span sectors, some are all zero. */
export function payloadAt(index: number): Uint8Array {
  return new Uint8Array((index * 37) % 1500).fill(index % 5 === 0 ? 0 : index % 251);
}

async function main(directory: string): Promise<void> {
  const journal = await openJournal({
    directory,
    segmentBytes: 128 * 1024,
    reservedDiskBytes: 1,
    clock: systemClock,
    logger: silentLogger,
  });
  if (journal.state.nodeId === undefined) {
    await journal.initialize({ nodeId: "node", clusterId: "cluster" });
  }
  let index = journal.state.baseIndex + journal.state.entries.length;
  let term = journal.state.hardState.term;
  const batch = async () => {
    const entries: Entry[] = [];
    term = (term + 1) as Term;
    for (let i = 0; i <= index % 4; i++) {
      index++;
      entries.push({ index: index as Index, term, kind: "command", payload: payloadAt(index) });
    }
    const [durable, durableTerm] = [index, term];
    await journal.append({ hardState: { term, vote: `voted-${term}` }, entries });
    writeSync(1, `${durable} ${durableTerm}\n`);
    if (durable % 300 < 4) await journal.compact((durable - 100) as Index, 1 as Term);
  };
  const client = async () => {
    for (;;) await batch();
  };
  await Promise.all([client(), client(), client()]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) void main(process.argv[2]!);
