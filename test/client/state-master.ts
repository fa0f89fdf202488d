/**
 * A master in this process on a real state machine, behind a real wire: its sessions and its namespace are served by the
 * masters' own handlers, its workers are memory.
 */
import { loadConfig, type SecurityConfig } from "../../src/lib/config.ts";
import type { InodeId, WorkerId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Identities } from "../../src/master/services/identities.ts";
import type { MasterParts } from "../../src/master/services/parts.ts";
import { serveNamespace } from "../../src/master/services/serve-namespace.ts";
import { WorkerProofs } from "../../src/master/services/worker-proofs.ts";
import { serveSessions } from "../../src/master/services/serve-sessions.ts";
import { statusOf } from "../../src/master/state/queries.ts";
import type { Command, Request } from "../../src/rpc/commands.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { FileLayout } from "../../src/rpc/namespace.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { ManualClock } from "../master/services/manual-clock.ts";
import { blockSizeBytes, Machine, requestOf } from "../master/state/machine-fixture.ts";

export class StateMaster {
  readonly machine = Machine.make();
  readonly keepers: readonly WorkerId[];
  /** What was asked and applied, in order. */
  readonly calls: string[] = [];
  readonly requests: Request[] = [];
  readonly #rpc: RpcServer;

  static async start(security: SecurityConfig = loadConfig({}).security): Promise<StateMaster> {
    const clock = new ManualClock();
    const identities = await Identities.open({
      security,
      ownUid: 0,
      clock,
      logger: silentLogger,
    });
    const rpc = await RpcServer.listen({
      host: "127.0.0.1",
      port: 0,
      logger: silentLogger,
      identify: (request) => identities.identified(request),
    });
    return new StateMaster(rpc);
  }

  private constructor(rpc: RpcServer) {
    const { calls } = this;
    this.#rpc = rpc;
    this.keepers = [this.machine.worker("one"), this.machine.worker("two")];
    const counting = {
      handle: (method: { name: string }, handler: (request: never, call: never) => unknown) => {
        rpc.handle(method as never, (request, call) => {
          calls.push(method.name);
          return handler(request as never, call as never) as never;
        });
      },
    } as unknown as RpcServer;
    const parts = this.#parts();
    serveNamespace(counting, parts);
    serveSessions(counting, parts);
    rpc.handle(masterApi.workers, () => ({
      appliedIndex: this.machine.index,
      workers: this.keepers.map((id) => ({
        ...{ id, uuid: String(id), host: "here", address: "127.0.0.1:1", state: "live" as const },
        ...{ tiers: [], silentMs: 0 },
      })),
    }));
  }

  get port(): number {
    return this.#rpc.port;
  }

  async stop(): Promise<void> {
    await this.#rpc.close();
  }

  #parts(): MasterParts {
    const { machine } = this;
    const apply = (request: Request) => {
      this.requests.push(request);
      const { results, positions } = machine.apply(request);
      return Promise.resolve({ position: positions[0]!, results: results[0]! });
    };
    const layouts = {
      layoutOf: (inode: InodeId) => Promise.resolve(this.#layoutOf(inode)),
      isLost: () => false,
    };
    const appliedIndex = () => machine.index;
    return {
      store: Object.defineProperty(machine.state, "appliedIndex", { get: appliedIndex }),
      config: loadConfig({}),
      feed: { lastTold: 0 },
      proofs: new WorkerProofs(undefined),
      leadership: {
        reign: {},
        status: { role: "leader" },
        whenReigning: () => Promise.resolve(),
        error: () => new Error("it leads"),
      },
      raft: { readIndex: () => Promise.resolve(0), oldestVersion: 99 },
      machine: { appliedIndex: 0, waitApplied: () => Promise.resolve() },
      locations: { containersOf: () => [] },
      leader: () => Promise.resolve({ layouts }),
      proposer: {
        enqueue: apply,
        submit: apply,
        propose: async (commands: readonly Command[]) => (await apply(requestOf(commands))).results,
      },
    } as unknown as MasterParts;
  }

  #layoutOf(inode: InodeId): FileLayout {
    const status = statusOf(this.machine.inode(inode));
    return { status, blockSizeBytes, segments: [], ufs: undefined };
  }
}
