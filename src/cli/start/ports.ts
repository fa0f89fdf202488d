/** Ports of a local cluster: the usual ones, or free ones so that several clusters live side by side. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { WeirError } from "../../lib/errors.ts";

export interface ClusterPorts {
  readonly nats: number;
  readonly masters: readonly { readonly rpc: number; readonly raft: number }[];
}

/** RPC ports leave room for each master's web port, one above. */
export const usualPorts: ClusterPorts = {
  nats: 4222,
  masters: [
    { rpc: 19998, raft: 19200 },
    { rpc: 19996, raft: 19201 },
    { rpc: 19994, raft: 19202 },
  ],
};

/** Whether a server can listen on 127.0.0.1:port now. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => {
      server.close(() => resolve(true));
    });
  });
}

/** `count` different ports that are free now, below the range from which the system takes ports for connections. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  for (let attempt = 0; attempt < 1000 && found.size < count; attempt++) {
    const port = 20_200 + Math.floor(Math.random() * 12_000);
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  if (found.size < count) {
    throw new WeirError(
      "Unavailable",
      "Cannot start: no free ports from 20200 to 32199 were found",
    );
  }
  return [...found];
}

export async function autoPorts(masters: number): Promise<ClusterPorts> {
  const [nats, ...rest] = await freePorts(1 + 2 * masters);
  return {
    nats: nats!,
    masters: Array.from({ length: masters }, (_, index) => ({
      rpc: rest[2 * index]!,
      raft: rest[2 * index + 1]!,
    })),
  };
}

/**
 * Checks that all ports are free.
 * @throws WeirError `Unavailable` naming the first that is taken, who has it where that can be seen, and the cure
 */
export async function requireFree(ports: ClusterPorts): Promise<void> {
  const named: [string, number][] = [
    ["nats-server", ports.nats],
    ...ports.masters.flatMap((master, index): [string, number][] => [
      [`master-${String(index + 1)}`, master.rpc],
      [`master-${String(index + 1)} (raft)`, master.raft],
    ]),
  ];
  const free = await Promise.all(named.map(([, port]) => isFree(port)));
  const place = free.indexOf(false);
  if (place === -1) return;
  const [service, port] = named[place]!;
  const owner = listenerOf(port);
  throw new WeirError(
    "Unavailable",
    `Cannot start ${service}: port ${String(port)} is taken${owner === undefined ? "" : ` by ${owner}`}. ` +
      "Cure: end that program, or let Weir choose free ports: npm start -- --ports auto",
  );
}

/** The program that listens on a port, as `name (process N)`, when /proc shows it to us. */
function listenerOf(port: number): string | undefined {
  const hexPort = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    try {
      for (const line of readFileSync(table, "latin1").split("\n").slice(1)) {
        const fields = line.trim().split(/\s+/);
        const listening = fields[3] === "0A";
        if (listening && fields[1]?.endsWith(hexPort)) inodes.add(`socket:[${fields[9] ?? ""}]`);
      }
    } catch {
      // No such table on this machine.
    }
  }
  if (inodes.size === 0) return undefined;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
        if (inodes.has(readlinkSync(`/proc/${pid}/fd/${descriptor}`))) {
          return `${readFileSync(`/proc/${pid}/comm`, "utf8").trim()} (process ${pid})`;
        }
      }
    } catch {
      // Gone meanwhile, or another user's.
    }
  }
  return undefined;
}
