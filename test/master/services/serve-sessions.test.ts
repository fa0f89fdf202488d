/** What a client asked for, as the leader writes it into the log. */
import assert from "node:assert/strict";
import { type Position, rootInodeId } from "../../../src/lib/ids.ts";
import type { MasterParts } from "../../../src/master/services/parts.ts";
import { serveSessions } from "../../../src/master/services/serve-sessions.ts";
import type { Command, CommandResult, Request } from "../../../src/rpc/commands.ts";
import type { RpcServer } from "../../../src/rpc/server.ts";
import { requestOf } from "../state/machine-fixture.ts";
import { LeaderFixture } from "./leader-fixture.ts";

interface Answered {
  readonly position: Position;
  readonly results: readonly CommandResult[];
}

describe("a mount whose store cannot be read", () => {
  let fixture: LeaderFixture;
  let written: Command["kind"][];

  beforeEach(() => {
    fixture = new LeaderFixture();
    written = [];
  });
  afterEach(() => fixture.end());

  /** What a leader answers to a mount, when all members can decode what is of that version. */
  async function mountAmong(oldestVersion: number): Promise<CommandResult> {
    const { machine, dispatcher } = fixture;
    const apply = (request: Request): Answered => {
      written.push(...request.commands.map(({ kind }) => kind));
      const { results, positions } = machine.apply(request);
      return { position: positions[0]!, results: results[0]! };
    };
    const parts = {
      store: machine.state,
      raft: { oldestVersion },
      leadership: { reign: fixture.reign, whenReigning: () => Promise.resolve() },
      proposer: {
        submit: (request: Request) => Promise.resolve(apply(request)),
        propose: (commands: readonly Command[]) =>
          Promise.resolve(apply(requestOf(commands)).results),
      },
      config: {},
      leader: () => Promise.resolve({ dispatcher }),
    } as unknown as MasterParts;
    const handlers = new Map<string, (request: Request, call: unknown) => Promise<Answered>>();
    const server = {
      handle: ({ name }: { name: string }, handler: () => Promise<Answered>) =>
        handlers.set(name, handler),
    } as unknown as RpcServer;
    serveSessions(server, parts);
    const session = machine.openSession();
    const { signal } = new AbortController();
    const asked = { parent: rootInodeId, name: "m", uri: "file:///data", readOnly: false };
    const mount = { kind: "mount" as const, ...asked, options: {} };
    const answered = await handlers.get("mutate")!(requestOf([mount], { session, sequence: 1 }), {
      signal,
    });
    assert(!machine.exists("/m"));
    return answered.results[0]!;
  }

  it("is refused in the log where all masters can read that", async () => {
    const result = await mountAmong(3);
    assert(!result.ok && result.code === "Unavailable");
    assert.match(result.detail, /no worker is registered/);
    assert.deepEqual(written, ["refuseMount"]);
  });

  it("is refused in no word that the oldest of the masters could not read", async () => {
    for (const oldest of [1, 2]) {
      const result = await mountAmong(oldest);
      assert(!result.ok && result.code === "Unavailable");
      assert.match(result.detail, /no worker is registered/);
    }
    assert.deepEqual(written, ["touchSessions", "touchSessions"]);
  });
});
