/** Ports on loopback that nobody listens on, for programs that cannot be told to choose one themselves. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/** `count` different ports; all are held open until the last is found, then released. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
