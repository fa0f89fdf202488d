/**
 * RPC: looks through the whole state of a master beside its work, from a snapshot of the store, in steps of about a
 * millisecond. What the workers told this master counts as well: bytes that nobody has, copies that nobody wants.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { sleep } from "../../lib/clock.ts";
import { type InodeId, indexOfPosition, type WorkerId, type WriteId } from "../../lib/ids.ts";
import type { Finding, FsckItem } from "../../rpc/fsck-items.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { cures } from "../fsck/finding.ts";
import { runCheck } from "../fsck/run-check.ts";
import { containerUse, workersOf } from "../state/queries.ts";
import { MissingCopies } from "./missing-copies.ts";
import type { MasterParts } from "./parts.ts";
import { needSuperuser } from "./read-rights.ts";

/** Copies that are looked at in one go. */
const copiesPerStep = 500;

type Pace = (rows: number) => Promise<void>;

/** Findings of one kind: all are counted, some are kept. */
interface Several {
  readonly findings: readonly Finding[];
  readonly count: number;
}

export function serveFsck(server: RpcServer, parts: MasterParts): void {
  server.handleStream(masterApi.fsck, ({ caller, ...request }, { signal }) => {
    needSuperuser(caller, "Cannot check the metadata");
    return checkLive(parts, request, signal);
  });
}

/** What a check of a live master looks at. */
type CheckedParts = Pick<MasterParts, "name" | "store" | "locations" | "registry" | "clock">;

/** Checks the state as it is on disk now, and what the workers told. */
export async function* checkLive(
  parts: CheckedParts,
  request: { readonly rowsPerSecond: number; readonly limit: number },
  signal: AbortSignal,
): AsyncGenerator<FsckItem, void> {
  const { store, name } = parts;
  const { limit } = request;
  const pace = paceOf(request.rowsPerSecond, parts, signal);
  const snapshot = await store.snapshot();
  try {
    const source = { index: snapshot.index, rows: snapshot.rows.bind(snapshot) };
    const missing = new MissingCopies(parts, limit);
    const run = runCheck({ source, pace, limit, holders: missing.holders });
    let step = await run.next();
    for (; step.done !== true; step = await run.next())
      yield { kind: "progress", rows: step.value };
    const { findings, found, inodes, rows } = step.value;
    const lost = await missing.decided(signal);
    const orphans = await orphansOf(parts, pace, limit);
    yield {
      kind: "end",
      master: name,
      index: snapshot.index,
      rows,
      inodes,
      found: found + lost.length + orphans.count,
      findings: [...findings, ...lost, ...orphans.findings].slice(0, limit),
    };
  } finally {
    await snapshot.close();
  }
}

/** Lets other work in after each step, and waits where the rate says so. */
function paceOf(rowsPerSecond: number, { clock }: CheckedParts, signal: AbortSignal): Pace {
  const startMs = clock.monotonicMs();
  let rows = 0;
  return async (count) => {
    signal.throwIfAborted();
    rows += count;
    const dueMs = rowsPerSecond === 0 ? 0 : startMs + (rows / rowsPerSecond) * 1000;
    const waitMs = dueMs - clock.monotonicMs();
    if (waitMs >= 1) await sleep(waitMs, signal);
    else await nextTurn();
  };
}

/** Copies that the workers told of and nothing in the state names. */
async function orphansOf(
  { store, locations }: CheckedParts,
  pace: Pace,
  limit: number,
): Promise<Several> {
  const findings: Finding[] = [];
  let count = 0;
  let looked = 0;
  const known = new Set(workersOf(store).map(({ id }) => id));
  for (const inode of locations.inodes()) {
    if (++looked % copiesPerStep === 0) await pace(0);
    for (const { worker, writeId } of locations.containersOf(inode)) {
      if (indexOfPosition(writeId) > store.appliedIndex || !known.has(worker)) continue;
      if (containerUse(store, { inode, writeId }) !== "unknown") continue;
      count++;
      if (findings.length < limit) findings.push(orphan(inode, writeId, worker));
    }
  }
  return { findings, count };
}

function orphan(inode: InodeId, writeId: WriteId, worker: WorkerId): Finding {
  return {
    check: "orphan",
    inode,
    path: undefined,
    subject: `container ${inode}.${writeId}`,
    is: `lies at worker ${worker}, and nothing names it`,
    wanted: "none",
    cure: cures.orphan,
  };
}
