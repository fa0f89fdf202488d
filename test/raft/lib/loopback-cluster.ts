/** Masters' consensus on loopback, in this process, over journals in memory that can lose what was not synced. */
import { mkdtemp, rm } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "../../../src/lib/clock.ts";
import { type Logger, silentLogger } from "../../../src/lib/logger.ts";
import type { Journal } from "../../../src/raft/journal.ts";
import { type Peer, RaftNode, type RaftNodeOptions } from "../../../src/raft/node.ts";
import { eventually } from "../../lib/eventually.ts";
import { freePorts } from "../../lib/free-ports.ts";
import { JournalDirectory } from "../../lib/journal-directory.ts";
import { MemoryJournal } from "../../lib/memory-journal.ts";
import { ListMachine } from "./list-machine.ts";

export interface Member {
  node: RaftNode | undefined;
  journal: Journal;
  machine: ListMachine;
  fatal: Error | undefined;
}

export class LoopbackCluster {
  /** Of the masters that the cluster begins with: what their configuration files list. */
  readonly peers: readonly Peer[];
  /** One for each of `peers`, then those that `addMaster` made. */
  readonly members: Member[];
  /** Where each of `members` listens. */
  readonly places: Peer[];
  readonly #directory: string;
  readonly #options: Partial<RaftNodeOptions>;
  readonly #directories: JournalDirectory[] = [];

  private constructor(
    directory: string,
    peers: readonly Peer[],
    options: Partial<RaftNodeOptions>,
  ) {
    this.#directory = directory;
    this.peers = peers;
    this.places = [...peers];
    this.#options = options;
    this.members = peers.map(newMember);
  }

  /** Nothing runs yet. */
  static async make(
    count: number,
    options: Partial<RaftNodeOptions> = {},
  ): Promise<LoopbackCluster> {
    const ports = await freePorts(count);
    const peers = ports.map((port, i) => ({
      name: `master-${i + 1}`,
      host: "127.0.0.1",
      port,
      rpcPort: 10_001 + i,
    }));
    const directory = await mkdtemp(join(tmpdir(), "weir-raft-"));
    return new LoopbackCluster(directory, peers, options);
  }

  async start(place: number, options: Partial<RaftNodeOptions> = {}): Promise<RaftNode> {
    const member = this.members[place]!;
    const own = this.places[place]!;
    member.fatal = undefined;
    const logger: Logger = silentLogger;
    member.node = await RaftNode.start({
      name: own.name,
      clusterName: "test",
      peers: this.peers.includes(own) ? this.peers : [...this.peers, own],
      listen: own,
      journal: member.journal,
      machine: member.machine,
      clock: systemClock,
      random: systemRandom,
      logger,
      tickMs: 10,
      heartbeatTicks: 3,
      electionTicks: 20,
      retainedEntries: 1000,
      retainedBytes: 64 * 1024 ** 2,
      snapshotDirectory: join(this.#directory, String(place)),
      onStatus: () => undefined,
      onFatal: (error) => {
        member.fatal = error;
      },
      ...this.#options,
      ...options,
    });
    return member.node;
  }

  /** An empty master that nobody's configuration file lists but its own, not started; returns its place. */
  async addMaster(name = `master-${this.places.length + 1}`): Promise<number> {
    const [port] = await freePorts(1);
    const place = this.places.length;
    this.places.push({ name, host: "127.0.0.1", port: port!, rpcPort: 10_001 + place });
    this.members.push(newMember());
    return place;
  }

  /** What the leader is told to add the master at `place`. */
  addressOf(place: number): { name: string; host: string; raftPort: number; rpcPort: number } {
    const { name, host, port: raftPort, rpcPort = 0 } = this.places[place]!;
    return { name, host, raftPort, rpcPort };
  }

  /** The file that a snapshot to the master at `place` comes in. */
  spoolOf(place: number): string {
    return join(this.#directory, String(place), "snapshot.part");
  }

  /** The node of the one that leads. */
  async leading(): Promise<RaftNode> {
    return this.members[await this.leader()]!.node!;
  }

  /** Takes the data of a master that does not run. */
  wipe(place: number): void {
    Object.assign(this.members[place]!, newMember());
  }

  async startAll(): Promise<void> {
    await Promise.all(this.members.map((_, place) => this.start(place)));
  }

  /** Stops it abruptly; what was not synced is lost. */
  async crash(place: number): Promise<void> {
    const member = this.members[place]!;
    const { node } = member;
    member.node = undefined;
    const { journal, machine } = member;
    member.machine = machine.crash();
    if (!(journal instanceof MemoryJournal)) {
      await node?.stop();
      return;
    }
    member.journal = journal.crash();
    // A write that was under way when it crashed never ends, and so the stop may not: only its port has to be free.
    await Promise.race([node?.stop(), this.#portIsFree(place)]);
  }

  async #portIsFree(place: number): Promise<void> {
    const { host, port } = this.places[place]!;
    await eventually(`port ${port} to be free`, async () => {
      const server = createServer().listen(port, host);
      await once(server, "listening");
      await once(server.close(), "close");
      return true;
    });
  }

  /** Replaces the journals in memory by real ones; nothing runs yet. */
  async useFiles(): Promise<void> {
    for (const member of this.members) {
      const directory = await JournalDirectory.make();
      this.#directories.push(directory);
      member.journal = await directory.open();
    }
  }

  /** Stops a node over files abruptly, and opens what a restart finds. */
  async reopen(place: number): Promise<void> {
    const member = this.members[place]!;
    await member.node?.stop();
    member.node = undefined;
    await member.journal.close();
    member.journal = await this.#directories[place]!.open();
    member.machine = member.machine.crash();
  }

  async stop(): Promise<void> {
    for (const { node, journal } of this.members) {
      await node?.stop();
      await journal.close();
    }
    for (const directory of this.#directories) await directory.remove();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Place of the node that leads, once all running members agree on it. */
  leader(): Promise<number> {
    return eventually("a leader that all know", () => {
      const place = this.members.findIndex(
        ({ node, fatal }) => fatal === undefined && node?.status.role === "leader",
      );
      const leader = this.members[place]?.node;
      if (leader === undefined) return undefined;
      const { term } = leader.status;
      const ids = new Set(leader.members().map(({ nodeId }) => nodeId));
      const isAgreed = this.members.every(({ node, fatal }) => {
        if (node === undefined || fatal !== undefined || !ids.has(node.status.nodeId)) return true;
        const { status } = node;
        return status.term === term && status.leaderName === this.places[place]!.name;
      });
      return isAgreed ? { place } : undefined;
    }).then(({ place }) => place);
  }

  /** Proposes on whoever leads, and waits until it is applied there. */
  async write(text: string): Promise<void> {
    await eventually(`"${text}" to be applied`, async () => {
      const member = this.members[await this.leader()]!;
      const { index, term } = member.node!.propose(Buffer.from(text));
      return eventually(
        "its fate",
        () => {
          if (member.node === undefined || member.machine.appliedIndex < index) {
            return member.node?.status.term === term ? undefined : { ok: false };
          }
          const item = member.machine.items.find((each) => each.index === index);
          return { ok: item?.term === term };
        },
        5000,
      ).then(({ ok }) => ok);
    });
  }

  /** Waits until every running node has applied the same commands, and returns them. */
  converged(): Promise<string[]> {
    return eventually("all to have applied the same", () => {
      const running = this.members.filter(
        ({ node, fatal }) => node?.clusterId !== undefined && fatal === undefined,
      );
      const last = Math.max(...running.map(({ node }) => node!.status.lastIndex));
      const isDone = running.every(({ machine }) => machine.appliedIndex === last);
      return isDone ? running[0]!.machine.texts : undefined;
    });
  }
}

function newMember(): Member {
  return {
    node: undefined,
    journal: new MemoryJournal(),
    machine: new ListMachine(),
    fatal: undefined,
  };
}
