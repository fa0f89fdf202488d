/** Looks at the small tables (mounts, workers, counters), and at what waits: side effects, garbage, lineages. Pure. */
import type { DataPolicyId, InodeId, MountId, WorkerId } from "../../lib/ids.ts";
import type { Schema } from "../../lib/schema.ts";
import {
  clockKey,
  clusterKey,
  configurationKey,
  containerOfKept,
  type CounterName,
  counterKey,
  dataPolicyIdsKey,
  dataPolicyKey,
  firstIdOf,
  inodeCountKey,
  levelKey,
  lineageOfKey,
  mountIdsKey,
  mountKey,
  nameOfArrival,
  nameOfTomb,
  parseGarbageKey,
  syncIntervalsKey,
  treeKey,
  ttlClockKey,
  treeOpIdsKey,
  ufsOpKey,
  workerKey,
  workerUuidKey,
} from "../state/keys.ts";
import * as model from "../state/model.ts";
import { type CheckContext, facts, recordOf, shownKey } from "./check-context.ts";
import type { CheckName } from "../../rpc/fsck-items.ts";

const counterNames: readonly CounterName[] = [
  "Inode",
  "Mount",
  "Worker",
  "Lineage",
  "UfsOp",
  "TreeOp",
  "DataPolicy",
];

/** Rows of `meta/` and what they hold. */
const metaSchemas: ReadonlyMap<string, Schema<unknown>> = new Map<string, Schema<unknown>>([
  [clusterKey, model.cluster],
  [clockKey, model.stateClock],
  [configurationKey, model.storedConfiguration],
  [mountIdsKey, model.mountIds],
  [levelKey, model.count],
  [inodeCountKey, model.count],
  [treeKey, model.tree],
  [syncIntervalsKey, model.count],
  [ttlClockKey, model.stateClock],
  [treeOpIdsKey, model.treeOpIds],
  [dataPolicyIdsKey, model.dataPolicyIds],
  ...counterNames.map((name): [string, Schema<unknown>] => [counterKey(name), model.storedId]),
]);

export class TableRows {
  readonly #context: CheckContext;
  readonly #meta = new Map<string, unknown>();
  readonly #greatest = new Map<CounterName, number>();
  /** Queued operations of each mount. */
  readonly #queued = new Map<MountId, number>();
  readonly #policies: DataPolicyId[] = [];
  /** By uuid: the id that it has, less that of the worker who has it. */
  readonly #uuids = new Map<string, number>();

  constructor(context: CheckContext) {
    this.#context = context;
  }

  /** Rows of meta/, mount/, worker/, uuid/ and datapolicy/. */
  small(table: number, key: string, value: Uint8Array): void {
    if (table === 0) this.#metaRow(key, value);
    else if (table === 1) this.#mountRow(key, value);
    else if (table === 2) this.#workerRow(key, value);
    else if (table === 4) this.#policyRow(key, value);
    else {
      const id = recordOf(this.#context, model.storedId, key, value);
      if (id !== undefined) this.#addUuid(key, id);
    }
  }

  #metaRow(key: string, value: Uint8Array): void {
    const schema = metaSchemas.get(key);
    if (schema === undefined) {
      this.#report("row", `row ${shownKey(key)}`, "is of no kind that is known here", "none");
      return;
    }
    const record = recordOf(this.#context, schema, key, value);
    if (record !== undefined) this.#meta.set(key, record);
    if (key === clusterKey && record !== undefined) {
      this.#context.tables.blockSizeBytes = (record as model.Cluster).blockSizeBytes;
    }
    if (key === treeOpIdsKey) this.#context.tables.treeOps = (record ?? []) as model.TreeOpIds;
    if (key === treeKey) this.#context.tables.tree = record as model.Tree | undefined;
  }

  #mountRow(key: string, value: Uint8Array): void {
    const of = recordOf(this.#context, model.mount, key, value);
    if (of === undefined) return;
    const { mounts, mountRoots, covered } = this.#context.tables;
    this.#see("Mount", of.id);
    if (mountKey(of.id) !== key) {
      this.#report("row", `row ${shownKey(key)}`, `says that it is mount ${of.id}`, "its own id");
    }
    if (mountRoots.has(of.root)) {
      this.#report("mounts", `mount ${of.id}`, `has the root ${of.root} of another one`, "its own");
    }
    mounts.set(of.id, of);
    mountRoots.add(of.root);
    if (of.covered !== undefined) covered.add(of.covered);
  }

  #workerRow(key: string, value: Uint8Array): void {
    const of = recordOf(this.#context, model.worker, key, value);
    if (of === undefined) return;
    this.#see("Worker", of.id);
    this.#context.tables.workers.add(of.id);
    if (of.state === "live") this.#context.tables.live.add(of.id);
    if (workerKey(of.id) !== key) {
      this.#report("row", `row ${shownKey(key)}`, `says that it is worker ${of.id}`, "its own id");
    }
    this.#addUuid(workerUuidKey(of.uuid), 0 - of.id);
  }

  #policyRow(key: string, value: Uint8Array): void {
    const id = firstIdOf(key) as DataPolicyId;
    this.#see("DataPolicy", id);
    this.#policies.push(id);
    recordOf(this.#context, model.dataPolicy, key, value);
    if (dataPolicyKey(id) === key) return;
    this.#report("row", `row ${shownKey(key)}`, "is no key of a data policy", "its id alone");
  }

  #addUuid(key: string, id: number): void {
    this.#uuids.set(key, (this.#uuids.get(key) ?? 0) + id);
  }

  /** After all rows of `small`. */
  endSmall(): void {
    const { mounts, workers } = this.#context.tables;
    const listed = (this.#meta.get(mountIdsKey) ?? []) as readonly MountId[];
    const same = listed.length === mounts.size && listed.every((id) => mounts.has(id));
    if (!same) {
      const wanted = [...mounts.keys()].join(", ");
      this.#report("mounts", "the list of mounts", `is ${listed.join(", ")}`, wanted);
    }
    const policies = (this.#meta.get(dataPolicyIdsKey) ?? []) as readonly DataPolicyId[];
    if (policies.join() !== this.#policies.join()) {
      const wanted = this.#policies.join(", ");
      this.#report("operations", "the list of data policies", `is ${policies.join(", ")}`, wanted);
    }
    const last = this.#next("Worker");
    for (let id = 1; id < last; id++) {
      if (workers.has(id as WorkerId)) continue;
      this.#report("counters", `worker ${id}`, "has no row", "one, since its id was given out");
    }
  }

  /** Rows of lineage/, ufsop/, tomb/ and arrival/. */
  queue(table: number, key: string, value: Uint8Array): void {
    const { known } = this.#context;
    if (table === 0) {
      const id = lineageOfKey(key);
      this.#see("Lineage", id);
      if (recordOf(this.#context, model.lineage, key, value) !== undefined) {
        known.add(facts.lineage(id));
      }
    } else if (table === 1) {
      const op = recordOf(this.#context, model.ufsOp, key, value);
      if (op !== undefined) this.#operation(key, op);
    } else if (table === 2) {
      known.add(facts.tomb(firstIdOf(key) as InodeId, nameOfTomb(key)));
    } else {
      known.add(facts.arrival(firstIdOf(key) as InodeId, nameOfArrival(key)));
    }
  }

  #operation(key: string, op: model.UfsOp): void {
    const { known } = this.#context;
    this.#see("UfsOp", op.id);
    this.#queued.set(op.mountId, (this.#queued.get(op.mountId) ?? 0) + 1);
    if (ufsOpKey(op.mountId, op.id) !== key) {
      this.#report(
        "row",
        `row ${shownKey(key)}`,
        `says that it is operation ${op.id}`,
        "its own id",
      );
    }
    const { action } = op;
    if (action.kind === "migrate") {
      const { filesOnTheWay } = this.#context.tables;
      filesOnTheWay.set(action.treeOp, (filesOnTheWay.get(action.treeOp) ?? 0) + 1);
    }
    if (action.inode !== undefined) known.add(facts.op(op.id, action.inode));
    if (action.kind === "rename" && action.replaces !== undefined) {
      known.add(facts.op(op.id, action.replaces));
    }
    const { tomb, arrival } = op;
    if (tomb !== undefined) known.add(facts.tombOf(op.id, tomb.directory, tomb.name));
    if (arrival !== undefined) known.add(facts.arrivalOf(op.id, arrival.directory, arrival.name));
  }

  /** Rows of ufsop/, tomb/ and arrival/ again: each needs its counterpart. */
  queueAgain(table: number, key: string, value: Uint8Array): void {
    const { known } = this.#context;
    if (table === 0) {
      const op = recordOf(this.#context, model.ufsOp, key, value);
      const subject = `operation ${shownKey(key)}`;
      const { tomb, arrival } = op ?? {};
      if (tomb !== undefined && !known.has(facts.tomb(tomb.directory, tomb.name))) {
        const is = `takes ${shownKey(tomb.name)} from the store, and nothing hides it`;
        this.#report("effects", subject, is, "a tomb", tomb.directory);
      }
      if (arrival !== undefined && !known.has(facts.arrival(arrival.directory, arrival.name))) {
        const is = `brings ${shownKey(arrival.name)} into the store, and nothing says so`;
        this.#report("effects", subject, is, "an arrival", arrival.directory);
      }
      return;
    }
    const op = recordOf(this.#context, model.storedId, key, value);
    const directory = firstIdOf(key) as InodeId;
    if (table === 2) {
      const name = nameOfArrival(key);
      if (op === undefined || known.has(facts.arrivalOf(op, directory, name))) return;
      const is = `is awaited from operation ${op}`;
      const wanted = "an operation that is queued";
      this.#report("effects", `name ${shownKey(name)}`, is, wanted, directory);
      return;
    }
    const name = nameOfTomb(key);
    if (op === undefined || known.has(facts.tombOf(op, directory, name))) return;
    const is = `is hidden by operation ${op}`;
    this.#report("effects", `name ${shownKey(name)}`, is, "an operation that is queued", directory);
  }

  /** After all rows of `queueAgain`. */
  endQueues(): void {
    const { mounts } = this.#context.tables;
    for (const { id, pendingOps } of mounts.values()) {
      const queued = this.#queued.get(id) ?? 0;
      if (pendingOps === queued) continue;
      this.#report("effects", `mount ${id}`, `says ${pendingOps} pending operations`, `${queued}`);
    }
    for (const [id, count] of this.#queued) {
      if (mounts.has(id)) continue;
      this.#report("effects", `mount ${id}`, `is gone, and has ${count} operations`, "none");
    }
  }

  /** A row of garbage/, if it is of the part that is looked at. */
  garbage(key: string): void {
    const { known, part, parts } = this.#context;
    const garbage = parseGarbageKey(key);
    if (garbage === undefined) {
      this.#report("row", `row ${shownKey(key)}`, "is no key of garbage", "its three parts");
    } else if (garbage.inode % parts === part) {
      known.add(facts.garbage(garbage.inode, garbage.writeId));
    }
  }

  /** A row of kept/. */
  kept(key: string): void {
    const { inode, writeId } = containerOfKept(key);
    this.#context.relation.add(facts.kept(firstIdOf(key) as WorkerId, inode, writeId), 1);
  }

  /** After all rows: the counts, and the ids that come next. */
  counters(inodes: number, greatest: Partial<Record<CounterName, number>>): void {
    const count = (this.#meta.get(inodeCountKey) ?? 0) as number;
    if (count !== inodes) {
      this.#report("counters", "the number of inodes", `is ${count}`, `${inodes}`);
    }
    for (const name of counterNames) {
      const taken = Math.max(greatest[name] ?? 0, this.#greatest.get(name) ?? 0);
      if (this.#next(name) > taken) continue;
      const subject = `the next id (${counterKey(name)})`;
      this.#report(
        "counters",
        subject,
        `is ${this.#next(name)}`,
        `more than ${taken}, which is taken`,
      );
    }
    for (const [key, difference] of this.#uuids) {
      if (difference === 0) continue;
      this.#report("counters", `row ${shownKey(key)}`, "names no worker that has that name", "one");
    }
  }

  #next(name: CounterName): number {
    return (this.#meta.get(counterKey(name)) ?? 1) as number;
  }

  #see(name: CounterName, id: number): void {
    this.#greatest.set(name, Math.max(this.#greatest.get(name) ?? 0, id));
  }

  #report(check: CheckName, subject: string, is: string, wanted: string, inode?: InodeId): void {
    this.#context.report({ check, inode, subject, is, wanted });
  }
}
