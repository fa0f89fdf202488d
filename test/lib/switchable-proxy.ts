/** A TCP proxy that can be told to swallow what comes: a peer that takes connections and never answers. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class SwitchableProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #swallows = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port of loopback, in front of `host:port`. */
  static async start(target: { host: string; port: number }): Promise<SwitchableProxy> {
    const server = createServer();
    const proxy = new SwitchableProxy(server);
    server.on("connection", (from) => proxy.#join(from, target));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on nothing gets an answer, on connections that are open neither. */
  swallow(): void {
    this.#swallows = true;
  }

  /** Those that were left without an answer are cut. */
  pass(): void {
    this.#swallows = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.pass();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(from: Socket, target: { host: string; port: number }): void {
    const to = connect(target);
    for (const socket of [from, to]) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        from.destroy();
        to.destroy();
      });
    }
    from.on("data", (data) => this.#swallows || to.write(data));
    to.on("data", (data) => this.#swallows || from.write(data));
  }
}
