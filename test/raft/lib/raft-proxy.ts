/**
 * Stands before one master's Raft port and passes on what others send to it; connections that carry snapshots can be
 * slowed, cut and damaged.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class RaftProxy {
  /** Passed on towards the master, for each connection with a snapshot in turn. */
  readonly snapshotBytes: number[] = [];
  /** Pieces passed on towards the master on connections for messages. */
  messagePieces = 0;
  /** While set, at most so many bytes pass every 10 ms on each connection with a snapshot. */
  bytesPer10Ms: number | undefined;
  /** Once so much has passed on one connection with a snapshot, it is cut; then forgotten. */
  cutAt: number | undefined;
  /** The byte at this place of the next connection with a snapshot is changed; then forgotten. */
  flipAt: number | undefined;
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #open = 0;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((socket) => this.#pass(socket));
  }

  static async start(target: number): Promise<RaftProxy> {
    const proxy = new RaftProxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }
  /** Connections with a snapshot that are open now. */
  get openSnapshots(): number {
    return this.#open;
  }
  get allSnapshotBytes(): number {
    return this.snapshotBytes.reduce((sum, each) => sum + each, 0);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #pass(from: Socket): void {
    const to = connect({ host: "127.0.0.1", port: this.#target });
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    to.pipe(from);
    from.once("data", (first: Buffer) => {
      // The first frame says what the connection is for.
      if (first.includes("snapshot")) {
        this.#passSnapshot(from, to, first);
        return;
      }
      to.write(first);
      from.on("data", (piece: Buffer) => {
        this.messagePieces++;
        to.write(piece);
      });
    });
  }

  #passSnapshot(from: Socket, to: Socket, first: Buffer): void {
    const place = this.snapshotBytes.push(0) - 1;
    this.#open++;
    from.once("close", () => this.#open--);
    const passOn = (piece: Buffer) => {
      const at = this.snapshotBytes[place]!;
      this.snapshotBytes[place] = at + piece.length;
      if (this.flipAt !== undefined && this.flipAt >= at && this.flipAt < at + piece.length) {
        const flipped = Buffer.from(piece);
        flipped[this.flipAt - at]! ^= 0x10;
        this.flipAt = undefined;
        to.write(flipped);
        return;
      }
      to.write(piece);
      if (this.cutAt !== undefined && at + piece.length >= this.cutAt) {
        this.cutAt = undefined;
        from.destroy();
      }
    };
    passOn(first);
    from.on("data", (piece: Buffer) => {
      passOn(piece);
      const limit = this.bytesPer10Ms;
      if (limit === undefined) return;
      from.pause();
      setTimeout(() => from.resume(), (10 * piece.length) / limit);
    });
  }
}
