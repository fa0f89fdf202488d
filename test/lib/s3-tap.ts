/**
 * A proxy before an S3 server that knows requests as such: it records them, and holds each up before the server sees it and
 * before its sender hears of the answer. Signatures stay good, since the server is told the host that was asked for.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface TappedRequest {
  readonly method: string;
  /** `/bucket/key`, decoded. */
  readonly path: string;
  readonly query: string;
  /** Of a copy: `bucket/key`, decoded. */
  readonly copiedFrom: string | undefined;
}

export class S3Tap {
  readonly #server: Server;
  readonly requests: TappedRequest[] = [];
  /** Before the server sees it; false: it never does, and the connection breaks. */
  beforeCall: (of: TappedRequest) => Promise<boolean> = () => Promise.resolve(true);
  /** When the server has answered, before the sender hears of it. */
  afterCall: (of: TappedRequest) => Promise<void> = () => Promise.resolve();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port of loopback. */
  static async start(target: string): Promise<S3Tap> {
    const server = createServer();
    const tap = new S3Tap(server);
    server.on("request", (from: IncomingMessage, to) => {
      const { method = "GET", url = "/", headers } = from;
      const parsed = new URL(url, target);
      const copied = headers["x-amz-copy-source"];
      const of: TappedRequest = {
        method,
        path: decodeURIComponent(parsed.pathname),
        query: parsed.search,
        copiedFrom: typeof copied === "string" ? decodeURIComponent(copied) : undefined,
      };
      const fail = () => to.destroy();
      const pass = async () => {
        tap.requests.push(of);
        if (!(await tap.beforeCall(of)) || from.destroyed) {
          fail();
          return;
        }
        const { hostname, port } = new URL(target);
        const onward = request({ hostname, port, method, path: url, headers });
        onward.on("error", fail);
        from.on("error", fail);
        to.on("close", () => onward.destroy());
        from.pipe(onward);
        const [answer] = (await once(onward, "response")) as [IncomingMessage];
        await tap.afterCall(of);
        to.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.on("error", fail);
        answer.pipe(to);
      };
      pass().catch(fail);
    });
    // Who waits to be told to go on would wait for the server's word, which is not passed.
    server.on("checkContinue", (from: IncomingMessage, to) => {
      to.writeContinue();
      server.emit("request", from, to);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return tap;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** Requests that change something, as `METHOD path`, a copy as `COPY path`; forgets them. */
  takeChanges(): string[] {
    const taken = this.requests.splice(0).filter(isChange);
    return taken.map(({ method, path, copiedFrom }) =>
      copiedFrom === undefined ? `${method} ${path}` : `COPY ${path}`,
    );
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export function isChange({ method }: TappedRequest): boolean {
  return method !== "GET" && method !== "HEAD";
}
