import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../src/lib/clock.ts";
import { type ErrorCode, WeirError } from "../../src/lib/errors.ts";
import type { InodeId, LineageId, SessionId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { type JobAssignment, RecoveryService } from "../../src/master/services/recovery.ts";
import { containerRange, writeIdOfContainer } from "../../src/master/state/keys.ts";
import * as model from "../../src/master/state/model.ts";
import {
  inodeOf,
  isContainerLost,
  lineageOf,
  statusOf,
  workersOf,
} from "../../src/master/state/queries.ts";
import { decode } from "../../src/lib/schema.ts";
import type { Command } from "../../src/rpc/commands.ts";
import type { FileLayout, Job } from "../../src/rpc/namespace.ts";
import type { TaskResult } from "../../src/rpc/tasks.ts";
import { eventually } from "../lib/eventually.ts";
import { extentsOver, Machine } from "./state/machine-fixture.ts";

/** What the workers do with an assignment; by default every output gets 10 bytes that depend on its path. */
type Behaviour = (assignment: JobAssignment, signal: AbortSignal) => Promise<TaskResult>;

/** Time passes only by waiting: whoever waits, waits one turn of the event loop. */
class SteppingClock implements Clock {
  #now = 0;
  monotonicMs(): number {
    return this.#now;
  }
  wallMs(): number {
    return this.#now;
  }
  after(delayMs: number, callback: () => void): () => void {
    const turn = setImmediate(() => {
      this.#now += delayMs;
      callback();
    });
    return () => {
      clearImmediate(turn);
    };
  }
}

/** A real state machine with pretended workers. */
class Cluster {
  readonly machine = Machine.make();
  readonly session: SessionId = this.machine.openSession();
  readonly workers: WorkerId[] = ["a", "b", "c"].map((uuid) => this.machine.worker(uuid));
  readonly ran: JobAssignment[] = [];
  readonly freed = new Set<InodeId>();
  behaviour: Behaviour = (assignment) => Promise.resolve(done(assignment));
  proposing: (commands: readonly Command[]) => void = () => undefined;
  service = this.lead();

  /** As a new leader would. */
  lead(): RecoveryService {
    this.service = new RecoveryService({
      reader: this.machine.state,
      propose: async (commands) => {
        this.proposing(commands);
        return commands.map((command) => this.machine.run(command));
      },
      runJob: (assignment, signal) => {
        this.ran.push(assignment);
        return this.behaviour(assignment, signal);
      },
      pickWorker: (preferred) => {
        const live = this.live();
        return preferred.find((worker) => live.includes(worker)) ?? live[0];
      },
      layoutOf: async (inode) => this.layoutOf(inode),
      isMissing: async (inode) => this.isMissing(inode),
      clock: new SteppingClock(),
      logger: silentLogger,
      jobAttempts: 3,
    });
    return this.service;
  }

  live(): WorkerId[] {
    return workersOf(this.machine.state)
      .filter((worker) => worker.state === "live")
      .map((worker) => worker.id);
  }

  lose(worker: WorkerId): void {
    this.machine.done({ kind: "workerLost", worker });
  }

  async isMissing(inode: InodeId): Promise<boolean> {
    if (this.freed.has(inode)) return true;
    if (inodeOf(this.machine.state, inode)?.form === "source") return false;
    return (await this.#containers(inode)).some((each) =>
      isContainerLost(this.machine.state, each),
    );
  }

  async layoutOf(inode: InodeId): Promise<FileLayout> {
    const file = inodeOf(this.machine.state, inode)!;
    const containers = await this.#containers(inode);
    return {
      status: statusOf(file),
      blockSizeBytes: 100,
      segments: containers.map((each) => ({
        fileOffset: 0,
        length: each.size,
        block: undefined,
        locations: each.keepers,
      })),
      ufs: undefined,
    };
  }

  async #containers(inode: InodeId) {
    const found = await this.machine.state.iterate(containerRange(inode), 100);
    return found.map(([key, value]) => decode(model.container, value, key));
  }

  /** A file that under storage has. */
  input(path: string): InodeId {
    const { inode } = this.machine.write(path, 50, {
      keepers: [this.workers[0]!],
      session: this.session,
      writeType: "CACHE_THROUGH",
    });
    this.machine.settle();
    return inode;
  }

  record(inputs: readonly string[], outputs: readonly string[]): LineageId {
    return this.machine.done({
      kind: "recordLineage",
      inputs: inputs.map((path) => {
        const { id: inode, version } = this.machine.at(path);
        return { path, inode, version };
      }),
      outputs: outputs.map((path) => ({
        path,
        parent: this.machine.at("/").id,
        name: path.slice(1),
      })),
      job,
      uid: 0,
      gid: 0,
    }).id as LineageId;
  }

  lineage(id: LineageId): model.Lineage {
    return lineageOf(this.machine.state, id)!;
  }

  recover(path: string, signal = new AbortController().signal): Promise<{ jobs: number }> {
    return this.service.recover(this.machine.at(path).id, signal);
  }

  /** Loses all workers that keep a file. */
  async loseKeepers(path: string): Promise<void> {
    for (const { keepers } of await this.#containers(this.machine.at(path).id)) {
      for (const keeper of keepers) if (this.live().includes(keeper)) this.lose(keeper);
    }
  }

  /** Lineages in the order in which they ran. */
  order(): LineageId[] {
    return this.ran.map((assignment) => assignment.lineage);
  }
}

const job: Job = {
  argv: ["sort", "-o", "{out}", "{in}"],
  environment: {},
  timeoutMs: 1000,
  captureStdout: false,
};

function done(assignment: JobAssignment, of: { hash?: string } = {}): TaskResult {
  const { lineage, epoch, outputs } = assignment;
  return {
    kind: "jobDone",
    taskId: 1,
    lineage,
    epoch,
    exitCode: 0,
    durationMs: 5,
    stderrTail: "",
    outputs: outputs.map(({ inode, path }) => ({
      inode,
      size: 10,
      hash: of.hash ?? `hash of ${path}`,
      extents: extentsOver(epoch, 0, 10),
    })),
  };
}

function exited(assignment: JobAssignment, exitCode: number, stderrTail: string): TaskResult {
  const { lineage, epoch } = assignment;
  return {
    kind: "jobDone",
    taskId: 1,
    lineage,
    epoch,
    exitCode,
    durationMs: 5,
    stderrTail,
    outputs: undefined,
  };
}

const rejected = (code: ErrorCode, message: RegExp) => (thrown: unknown) => {
  assert(thrown instanceof WeirError);
  assert.equal(thrown.code, code, thrown.message);
  assert.match(thrown.message, message);
  return true;
};

describe("the recovery of lost files", () => {
  let cluster: Cluster;
  const never = new AbortController().signal;
  beforeEach(() => {
    cluster = new Cluster();
  });
  afterEach(() => cluster.service.stop());

  /** /in → 1 → /a → 2 → /b → 3 → /c, all made. */
  const chain = async () => {
    cluster.input("/in");
    const ids = [
      cluster.record(["/in"], ["/a"]),
      cluster.record(["/a"], ["/b"]),
      cluster.record(["/b"], ["/c"]),
    ];
    await cluster.service.run(ids[2]!, never);
    assert.deepEqual(cluster.order(), ids);
    cluster.ran.length = 0;
    return ids;
  };

  it("runs a recorded lineage with what it needs first, and publishes the outputs", async () => {
    const ids = await chain();
    for (const id of ids) assert.equal(cluster.lineage(id).state, "done");
    assert.equal(cluster.machine.at("/c").size, 10);
    assert.equal(await cluster.isMissing(cluster.machine.at("/c").id), false);
    assert.deepEqual(await cluster.service.run(ids[2]!, never), { jobs: 0 });
  });

  it("has nothing to do for a file that is whole", async () => {
    await chain();
    assert.deepEqual(await cluster.recover("/c"), { jobs: 0 });
    assert.deepEqual(await cluster.recover("/in"), { jobs: 0 });
    assert.deepEqual(cluster.ran, []);
  });

  it("rebuilds a lost file by the smallest set of jobs, parents first, at the version it had", async () => {
    const ids = await chain();
    const { version } = cluster.machine.at("/c");
    await cluster.loseKeepers("/c");
    assert.equal(await cluster.isMissing(cluster.machine.at("/c").id), true);
    assert.deepEqual(await cluster.recover("/c"), { jobs: 3 });
    assert.deepEqual(cluster.order(), ids);
    assert.equal(await cluster.isMissing(cluster.machine.at("/c").id), false);
    assert.equal(cluster.machine.at("/c").version, version);
  });

  it("rebuilds what its only keeper no longer has, although that worker is live", async () => {
    const ids = await chain();
    const { id: inode } = cluster.machine.at("/c");
    const [[key, value]] = (await cluster.machine.state.iterate(containerRange(inode), 1)) as [
      [string, Uint8Array],
    ];
    const [worker] = decode(model.container, value, key).keepers;
    const containers = [{ inode, writeId: writeIdOfContainer(key) }];
    cluster.machine.done({ kind: "keeperGone", worker: worker!, containers });
    assert.deepEqual(cluster.live(), cluster.workers);
    assert.deepEqual(await cluster.recover("/c"), { jobs: 1 });
    assert.deepEqual(cluster.order(), [ids[2]]);
    const { attempts } = cluster.lineage(ids[2]!);
    assert.deepEqual([attempts.length, await cluster.isMissing(inode)], [2, false]);
  });

  it("L6: rebuilds inputs that were never made or freed, not only lost ones", async () => {
    const ids = await chain();
    cluster.freed.add(cluster.machine.at("/b").id);
    cluster.freed.add(cluster.machine.at("/c").id);
    const made = cluster.behaviour;
    cluster.behaviour = async (assignment, signal) => {
      for (const output of assignment.outputs) cluster.freed.delete(output.inode);
      return made(assignment, signal);
    };
    assert.deepEqual(await cluster.recover("/c"), { jobs: 2 });
    assert.deepEqual(cluster.order(), ids.slice(1));
  });

  it("runs independent jobs at once", async () => {
    cluster.input("/in");
    cluster.record(["/in"], ["/left"]);
    cluster.record(["/in"], ["/right"]);
    const last = cluster.record(["/left", "/right"], ["/both"]);
    const waiting: (() => void)[] = [];
    cluster.behaviour = async (assignment) => {
      if (assignment.lineage !== last) await new Promise<void>((resolve) => waiting.push(resolve));
      return done(assignment);
    };
    const running = cluster.service.run(last, never);
    await eventually("both parents run", () => waiting.length === 2);
    assert.equal(cluster.ran.length, 2);
    for (const release of waiting) release();
    assert.deepEqual(await running, { jobs: 3 });
  });

  it("L3: gives every job to a worker, preferring one that holds the inputs", async () => {
    await chain();
    await cluster.loseKeepers("/c");
    await cluster.recover("/c");
    for (const assignment of cluster.ran) assert(cluster.live().includes(assignment.worker));
    const holder = cluster.workers.at(-1)!;
    assert(cluster.live().includes(holder));
    cluster.machine.write("/held", 50, {
      keepers: [holder],
      session: cluster.session,
      writeType: "ASYNC_THROUGH",
    });
    cluster.ran.length = 0;
    await cluster.service.run(cluster.record(["/held"], ["/made"]), never);
    assert.equal(cluster.ran[0]?.worker, holder);
  });

  it("L3: has no way to run a job on a master: nothing below src/master imports a runner", () => {
    const root = join(import.meta.dirname, "../../src/master");
    const files = readdirSync(root, { recursive: true, encoding: "utf8" });
    const sources = files.filter((file) => file.endsWith(".ts"));
    assert(sources.length > 10);
    for (const file of sources) {
      const text = readFileSync(join(root, file), "utf8");
      assert.doesNotMatch(text, /from "[^"]*(lineage\/[a-z-]*runner|child_process)/, file);
    }
  });

  it("L4: runs a job once however many ask for it, also while it takes long", async () => {
    cluster.input("/in");
    cluster.record(["/in"], ["/a"]);
    let release = () => undefined as unknown;
    cluster.behaviour = async (assignment) => {
      await new Promise<void>((resolve) => (release = resolve));
      return done(assignment);
    };
    const asked = [cluster.recover("/a")];
    await eventually("the job runs", () => cluster.ran.length === 1);
    for (let i = 0; i < 20; i++) asked.push(cluster.recover("/a"));
    await new Promise((resolve) => setImmediate(resolve));
    release();
    await Promise.all(asked);
    assert.equal(cluster.ran.length, 1);
  });

  it("L4: gives up a job that fails again and again, and lets it try again when asked", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    cluster.behaviour = async (assignment) => exited(assignment, 7, "no such column\n");
    const failure = rejected(
      "JobFailed",
      /"\/a".*failed 3 times.*status 7 and said: no such column$/,
    );
    await assert.rejects(cluster.recover("/a"), failure);
    assert.equal(cluster.ran.length, 3);
    assert.equal(cluster.lineage(id).state, "failed");
    await assert.rejects(cluster.recover("/a"), failure);
    assert.equal(cluster.ran.length, 3, "nobody runs it before it is asked for");
    cluster.behaviour = async (assignment) => done(assignment);
    assert.deepEqual(await cluster.service.run(id, never), { jobs: 1 });
    assert.equal(cluster.lineage(id).failures, 0);
  });

  it("L1: publishes nothing of a job that exits with another status than 0", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    cluster.behaviour = async (assignment) => ({
      ...(done(assignment) as Extract<TaskResult, { kind: "jobDone" }>),
      exitCode: 1,
    });
    await assert.rejects(cluster.recover("/a"), rejected("JobFailed", /status 1/));
    assert.equal(cluster.lineage(id).committed, false);
    assert.equal(cluster.machine.at("/a").size, 0);
    assert.deepEqual(
      cluster.lineage(id).attempts.map((attempt) => attempt.exitCode),
      [1, 1, 1],
    );
  });

  it("L5: does not run children of a failed job, and tells those who wait for them why", async () => {
    cluster.input("/in");
    const first = cluster.record(["/in"], ["/a"]);
    cluster.record(["/a"], ["/b"]);
    cluster.record(["/b"], ["/c"]);
    cluster.behaviour = async (assignment) => exited(assignment, 2, "broken");
    await assert.rejects(cluster.recover("/c"), rejected("JobFailed", /status 2 and said: broken/));
    assert.deepEqual(new Set(cluster.order()), new Set([first]));
  });

  it("does not blame a job for a worker that went away, and runs it elsewhere", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    cluster.behaviour = async (assignment) => {
      if (cluster.ran.length > 5) return done(assignment);
      throw new WeirError("Unavailable", "Cannot reach the worker");
    };
    assert.deepEqual(await cluster.recover("/a"), { jobs: 1 });
    assert.equal(cluster.ran.length, 6);
    assert.equal(cluster.lineage(id).failures, 0);
    assert.notEqual(cluster.ran[0]?.worker, undefined);
  });

  it("does not try for ever when every attempt is cut short", async () => {
    cluster.input("/in");
    cluster.record(["/in"], ["/a"]);
    cluster.behaviour = async () => {
      throw new WeirError("Unavailable", "Cannot reach the worker");
    };
    await assert.rejects(
      cluster.recover("/a"),
      rejected("Unavailable", /10 attempts were cut short/),
    );
  });

  it("says so when there is no worker", async () => {
    cluster.input("/in");
    cluster.record(["/in"], ["/a"]);
    for (const worker of cluster.workers) cluster.lose(worker);
    await assert.rejects(cluster.recover("/a"), rejected("Unavailable", /no live worker/));
  });

  it("refuses outputs that differ from those of the first time", async () => {
    const [first] = await chain();
    await cluster.loseKeepers("/a");
    cluster.behaviour = async (assignment) => done(assignment, { hash: "another" });
    await assert.rejects(
      cluster.recover("/a"),
      rejected("JobFailed", /other bytes than the first time/),
    );
    assert.equal(cluster.lineage(first!).state, "failed");
  });

  it("L9: a new leader knows what is lost, and starts anew what the old one had under way", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    cluster.behaviour = (_, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          reject(signal.reason as Error);
        });
      });
    const waiting = cluster.recover("/a");
    await eventually("the job runs", () => cluster.ran.length === 1);
    const stopped = assert.rejects(waiting, rejected("Cancelled", /stops/));
    await cluster.service.stop();
    await stopped;
    const old = cluster.lineage(id).running!;
    assert.notEqual(old, undefined, "the old leader could not propose any more");

    cluster.lead();
    cluster.behaviour = async (assignment) => done(assignment);
    assert.deepEqual(await cluster.recover("/a"), { jobs: 1 });
    assert.equal(cluster.lineage(id).failures, 0);
    const epochs = cluster.lineage(id).attempts.map((attempt) => attempt.epoch);
    assert.deepEqual(epochs, [old.epoch, cluster.ran[1]!.epoch]);
  });

  it("L11: a late first attempt changes nothing", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    let late: JobAssignment | undefined;
    cluster.behaviour = async (assignment) => {
      if (late !== undefined) return done(assignment);
      late = assignment;
      throw new WeirError("Unavailable", "Cannot reach the worker");
    };
    await cluster.recover("/a");
    const before = cluster.machine.at("/a");
    const result = done(late!, { hash: "late" }) as Extract<TaskResult, { kind: "jobDone" }>;
    cluster.machine.refused("Stale", {
      kind: "commitAttempt",
      lineage: id,
      epoch: late!.epoch,
      worker: late!.worker,
      outputs: result.outputs!,
      durationMs: 1,
    });
    assert.deepEqual(cluster.machine.at("/a"), before);
  });

  it("plans again when an input is lost while its reader waits for a worker", async () => {
    const ids = await chain();
    await cluster.loseKeepers("/c");
    let lost = false;
    cluster.behaviour = async (assignment) => {
      if (assignment.lineage === ids[1] && !lost) {
        lost = true;
        await cluster.loseKeepers("/a");
        throw new WeirError("Unavailable", "Cannot reach the worker");
      }
      return done(assignment);
    };
    await cluster.recover("/c");
    assert.deepEqual(cluster.order(), [ids[0], ids[1], ids[0], ids[1], ids[2]]);
    assert.equal(await cluster.isMissing(cluster.machine.at("/c").id), false);
  });

  it("says why a file cannot be rebuilt", async () => {
    await chain();
    cluster.machine.write("/plain", 50, {
      keepers: [cluster.workers[1]!],
      session: cluster.session,
      writeType: "MUST_CACHE",
    });
    cluster.lose(cluster.workers[1]!);
    await assert.rejects(
      cluster.recover("/plain"),
      rejected("Lost", /"\/plain": every worker that kept it is lost.*no job is recorded/),
    );
    for (const path of ["/a", "/b", "/c"]) cluster.freed.add(cluster.machine.at(path).id);
    const { id: inode, version } = cluster.machine.at("/in");
    const writeId = cluster.machine.done({ kind: "lease", inode }, cluster.session)
      .writeId as WriteId;
    cluster.machine.done(
      {
        kind: "commit",
        inode,
        writeId,
        baseVersion: version,
        size: 50,
        extents: extentsOver(writeId, 0, 50),
        keepers: [cluster.workers[2]!],
        mtime: undefined,
        release: true,
      },
      cluster.session,
    );
    await assert.rejects(
      cluster.recover("/c"),
      rejected("Lost", /"\/c": its job needs "\/in", and its content is of version 3.* version 2/),
    );
    assert.deepEqual(cluster.ran, []);
  });

  it("L10: runs a lineage of which one output was deleted", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a", "/b"]);
    const unlink = (name: string) =>
      cluster.machine.done({
        kind: "unlink",
        parent: cluster.machine.at("/").id,
        name,
        held: false,
      });
    unlink("a");
    assert.deepEqual(await cluster.service.run(id, never), { jobs: 1 });
    assert.equal(cluster.machine.at("/b").size, 10);
    await assert.rejects(
      cluster.service.run(999 as LineageId, never),
      rejected("NotFound", /no such lineage/),
    );
  });

  it("lets a reader go at its deadline while the job goes on for the next", async () => {
    cluster.input("/in");
    cluster.record(["/in"], ["/a"]);
    let release = () => undefined as unknown;
    cluster.behaviour = async (assignment) => {
      await new Promise<void>((resolve) => (release = resolve));
      return done(assignment);
    };
    const controller = new AbortController();
    const impatient = cluster.recover("/a", controller.signal);
    await eventually("the job runs", () => cluster.ran.length === 1);
    controller.abort(new WeirError("DeadlineExceeded", "Cannot wait any longer"));
    await assert.rejects(impatient, rejected("DeadlineExceeded", /./));
    const patient = cluster.recover("/a");
    release();
    assert.deepEqual(await patient, { jobs: 1 });
    assert.equal(cluster.ran.length, 1);
  });

  it("waits for a leader that is too busy, and leaves the rest to the next one when it is deposed", async () => {
    cluster.input("/in");
    const id = cluster.record(["/in"], ["/a"]);
    let busy = 3;
    cluster.proposing = () => {
      if (busy-- > 0) throw new WeirError("Busy", "Cannot take more");
    };
    assert.deepEqual(await cluster.recover("/a"), { jobs: 1 });
    cluster.proposing = () => {
      throw new WeirError("NotLeader", "Cannot propose: another leads");
    };
    cluster.freed.add(cluster.machine.at("/a").id);
    await assert.rejects(cluster.recover("/a"), rejected("NotLeader", /./));
    assert.equal(cluster.lineage(id).state, "done");
  });
});
