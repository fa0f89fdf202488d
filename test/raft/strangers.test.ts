/** What connects to a master's port for other masters and is none. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { systemClock } from "../../src/lib/clock.ts";
import { frameHeader, strangerFrameBytes } from "../../src/lib/framing.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { encode } from "../../src/lib/schema.ts";
import {
  type Hello,
  hello,
  helloOf,
  type Identity,
  spokenVersions,
} from "../../src/raft/host/handshake.ts";
import { Transport } from "../../src/raft/transport.ts";
import type { Message } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";

const clusterId = "cluster";
const members = [
  { name: "a", nodeId: "node-a" },
  { name: "b", nodeId: "node-b" },
];
const identityOf = (name: string): Identity => ({
  ...{ name, clusterName: "test", stage: "member", nodeId: `node-${name}`, clusterId, members },
});
const roster = {
  boundTo: (name: string) => `node-${name}`,
  wasRemoved: () => false,
  knownAt: undefined,
  isChanged: false,
};

describe("raft transport among strangers", function () {
  this.timeout(30_000);
  let transport: Transport;
  let said: string[];
  let received: Message[];
  let sockets: Stranger[];

  interface Stranger {
    readonly socket: Socket;
    isClosed: boolean;
  }

  const listen = (name: string) =>
    Transport.listen({
      listen: { host: "127.0.0.1", port: 0 },
      peers: members.map(({ name: each }) => ({ name: each, host: "127.0.0.1", port: 1 })),
      clock: systemClock,
      logger: {
        ...silentLogger,
        warn: (fields, message) => {
          const { error = "" } = fields as { error?: string };
          said.push(`${message}: ${error}`);
        },
        error: (_fields, message) => said.push(message),
      },
      versions: spokenVersions,
      identity: () => identityOf(name),
      roster: () => roster,
      onMessage: (message) => received.push(message),
      onSnapshot: (socket) => socket.close(),
      onFormation: (socket) => void socket.next(60_000).catch(() => undefined),
      onAdmission: (socket) => socket.close(),
      onGone: () => undefined,
      onRefused: () => undefined,
    });

  beforeEach(async () => {
    said = [];
    received = [];
    sockets = [];
    transport = await listen("a");
  });

  afterEach(async () => {
    for (const { socket } of sockets) socket.destroy();
    await transport.close();
  });

  function stranger(): Stranger {
    const socket = connect({ host: "127.0.0.1", port: transport.port });
    const made = { socket, isClosed: false };
    socket.resume();
    socket.on("error", () => undefined);
    socket.on("close", () => {
      made.isClosed = true;
    });
    sockets.push(made);
    return made;
  }

  const framed = (payload: Uint8Array) => Buffer.concat([frameHeader(payload), payload]);
  const helloAs = (purpose: Hello["purpose"], name: string, changed: Partial<Identity> = {}) => {
    const rest = { versions: spokenVersions, knownAt: undefined };
    const identity = { ...identityOf(name), ...changed };
    return framed(encode(hello, helloOf(identity, purpose, "a", rest)));
  };
  const announcing = (bytes: number) => {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(bytes, 0);
    return header;
  };

  it("ends a connection whose first frame announces more than 64 KiB, and says so", async () => {
    for (const announced of [2 ** 30, 2 ** 20, strangerFrameBytes + 1]) {
      said.length = 0;
      const one = stranger();
      one.socket.write(announcing(announced));
      await eventually("the connection to end", () => one.isClosed);
      assert.equal(said.length, 1);
      assert.match(said[0]!, /^closed a connection: it is no master's: Cannot read a frame/);
      assert(said[0]!.includes(`it announces ${announced} bytes, wanted at most 65536`));
    }
  });

  it("takes no 1 MiB before it has accepted the caller, behind a greeting either", async () => {
    const whole = stranger();
    whole.socket.write(framed(Buffer.alloc(2 ** 20)));
    await eventually("the connection to end", () => whole.isClosed);
    const behind = stranger();
    behind.socket.write(Buffer.concat([helloAs("messages", "c"), announcing(2 ** 20)]));
    await eventually("the connection to end", () => behind.isClosed);
    const forming = stranger();
    forming.socket.write(helloAs("formation", "b"));
    await eventually("an answer", () => forming.socket.bytesRead > 0);
    forming.socket.write(announcing(2 ** 20));
    await eventually("the connection to end", () => forming.isClosed);
  });

  it("takes long messages from a master that it has accepted, and sends them to one", async () => {
    const other = await listen("b");
    try {
      const a = { name: "a", host: "127.0.0.1", port: transport.port };
      other.setLinks(new Map([["node-a", a]]));
      await eventually("the link", () => other.versionOf("node-a"));
      const entry = { index: 8, term: 4, kind: "command", payload: new Uint8Array(2 ** 20) };
      const append = (from: string, to: string) =>
        ({
          ...{ kind: "append", from, to, term: 4, prevIndex: 7, prevTerm: 2, commit: 6 },
          entries: [entry],
        }) as unknown as Message;
      other.send([append("node-b", "node-a")]);
      await eventually("a long message", () => received.length === 1);
      transport.send([append("node-a", "node-b")]);
      await eventually("a long answer on the caller's connection", () => received.length === 2);
    } finally {
      await other.close();
    }
  });

  it("ends a connection that says nothing within seconds", async () => {
    const silent = stranger();
    await eventually("it to end", () => silent.isClosed);
  });

  it("drops the oldest of too many that say nothing, and still takes masters", async () => {
    const first = Array.from({ length: 64 }, stranger);
    await eventually("all to be connected", () => first.every(({ socket }) => !socket.connecting));
    const { socket } = stranger();
    socket.write(helloAs("messages", "b"));
    await eventually("an answer", () => socket.bytesRead > 0);
    const version = await eventually("it to be known", () => transport.versionOf("node-b"));
    assert.equal(version, spokenVersions.newest);
    assert(first[0]!.isClosed);
  });

  it("drops the oldest of too many that ask about the cluster, however they go on, and still takes masters", async () => {
    const guests: Stranger[] = [];
    for (let i = 0; i < 80; i++) {
      const guest = stranger();
      guest.socket.write(helloAs("formation", "b"));
      guests.push(guest);
      // One after the other, so that it is known who is oldest.
      await once(guest.socket, "data");
    }
    await eventually("the oldest to end", () => guests.slice(0, 16).every((each) => each.isClosed));
    assert(!guests[16]!.isClosed);
    assert(!guests.at(-1)!.isClosed);
    stranger().socket.write(helloAs("messages", "b"));
    await eventually("it to be known", () => transport.versionOf("node-b"));
  });

  it("says little of a caller that says much of itself, and keeps as little", async () => {
    const long = "x".repeat(50_000);
    for (const changed of [{ name: long, clusterName: "other" }, { clusterName: long }]) {
      said.length = 0;
      for (let i = 0; i < 2; i++) {
        const one = stranger();
        one.socket.write(helloAs("messages", "b", changed));
        await eventually("an answer", () => one.socket.bytesRead > 0);
      }
      const [complaint] = said;
      assert.equal(said.length, 1);
      assert.match(complaint!, /^Cannot work with master ".*wanted "test"$/);
      assert(complaint!.length < 2000, String(complaint!.length));
    }
  });
});
