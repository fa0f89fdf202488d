/** A master as workers see it: takes registrations and reports, hands out tasks, collects results. All by script. */
import { sleep } from "../../src/lib/clock.ts";
import type { WeirError } from "../../src/lib/errors.ts";
import type { InodeId, WorkerId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Infer } from "../../src/lib/schema.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import type {
  ContainerReport,
  heartbeat,
  MountTarget,
  Task,
  TaskResult,
} from "../../src/rpc/tasks.ts";

type Heartbeat = Infer<typeof heartbeat>;

export class FakeMaster {
  readonly port: number;
  readonly beats: Heartbeat[] = [];
  readonly registrations: { uuid: string; address: string; blockSizeBytes?: number | undefined }[] =
    [];
  readonly results: TaskResult[] = [];
  /** What it believes the worker holds, by "inode.writeId". */
  readonly holds = new Map<string, ContainerReport>();
  mounts: MountTarget[] = [];
  leader = true;
  term = 1;
  worker = 1 as WorkerId;
  clusterId = "cluster-a";
  blockSizeBytes: number | undefined;
  /** Of every registration. */
  refusal: WeirError | undefined;
  /** Answers the next heartbeat with these once. */
  tasks: Task[] = [];
  resync = false;
  register = false;
  /** Containers that are answered as released when they are reported as kept. */
  released = new Set<InodeId>();
  /** Whom it names as masters. */
  masters: string[] | undefined;
  ownAddress: string | undefined;
  #nextSequence = 0;
  readonly #server: RpcServer;

  static async start(): Promise<FakeMaster> {
    return new FakeMaster(
      await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger }),
    );
  }

  private constructor(server: RpcServer) {
    this.#server = server;
    this.port = server.port;
    server.handle(masterApi.registerWorker, async ({ uuid, address, blockSizeBytes: own }) => {
      this.registrations.push({ uuid, address, blockSizeBytes: own });
      if (this.refusal !== undefined) throw this.refusal;
      this.register = false;
      const { worker, clusterId, blockSizeBytes } = this;
      return { worker, clusterId, blockSizeBytes };
    });
    server.handle(masterApi.heartbeat, async (beat, { signal }) => {
      this.beats.push(beat);
      if (beat.full && beat.sequence === 0) this.holds.clear();
      else if (beat.sequence !== this.#nextSequence) this.resync = true;
      this.#nextSequence = beat.sequence + 1;
      for (const each of beat.changed) this.holds.set(`${each.inode}.${each.writeId}`, each);
      for (const { inode, writeId } of beat.removed) this.holds.delete(`${inode}.${writeId}`);
      const waitUntil = performance.now() + beat.waitMs;
      while (
        performance.now() < waitUntil &&
        this.tasks.length === 0 &&
        !this.resync &&
        !signal.aborted
      ) {
        await sleep(5);
      }
      const { resync, register, leader, term, masters, ownAddress } = this;
      this.resync = false;
      const released = beat.changed.filter(({ kept, inode }) => kept && this.released.has(inode));
      const tasks = this.tasks.splice(0);
      return {
        term,
        leader,
        appliedIndex: 1,
        tasks,
        resync,
        register,
        released,
        masters,
        ownAddress,
      };
    });
    server.handle(masterApi.taskResults, async ({ results }) => {
      this.results.push(...results);
      return {};
    });
    server.handle(masterApi.mountTargets, async () => ({ mounts: this.mounts }));
  }

  close(): Promise<void> {
    return this.#server.close();
  }
}
