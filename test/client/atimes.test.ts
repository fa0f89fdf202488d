/** What a client tells the masters of its reads. */
import { deepEqual, equal } from "node:assert/strict";
import { Atimes } from "../../src/client/atimes.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import { type ClientCommand, maxAtimes } from "../../src/rpc/commands.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";
import { ManualClock } from "../master/services/manual-clock.ts";

function setUp() {
  const clock = new ManualClock();
  const told: ClientCommand[] = [];
  const atimes = new Atimes(clock, async (command) => told.push(command));
  const nowSec = Math.floor(clock.wallMs() / 1000);
  /** Of a file that was modified and read so many seconds ago. */
  const status = (inode: number, { modified, read }: { modified: number; read: number }) => {
    const mtime = { sec: nowSec - modified, nsec: 0 };
    const atime = { sec: nowSec - read, nsec: 0 };
    return { inode: inode as InodeId, atime, mtime, ctime: mtime } as FileStatus;
  };
  return { clock, told, atimes, status };
}

describe("the access times that a client tells", () => {
  it("are those that lag behind, together and some seconds late, with how late", () => {
    const { clock, told, atimes, status } = setUp();
    atimes.read(status(1, { modified: 50, read: 100 }));
    atimes.read(status(2, { modified: 100, read: 50 }));
    atimes.read(status(3, { modified: 900_000, read: 90_000 }));
    clock.advance(1000);
    atimes.read(status(1, { modified: 50, read: 100 }));
    atimes.read(status(4, { modified: 50, read: 50 }));
    deepEqual(told, []);
    clock.advance(4000);
    const reads = [
      { inode: 1, agoMs: 4000 },
      { inode: 3, agoMs: 5000 },
      { inode: 4, agoMs: 4000 },
    ];
    deepEqual(told, [{ kind: "touchAtimes", reads }]);
    clock.advance(60_000);
    equal(told.length, 1, "there is nothing more to tell");
  });

  it("are told at once when they are many", () => {
    const { told, atimes, status } = setUp();
    for (let i = 1; i <= maxAtimes; i++) atimes.read(status(i, { modified: 1, read: 2 }));
    equal(told.length, 1);
  });

  it("are forgotten at the end, and nobody waits for masters that refuse them", async () => {
    const { clock, told, atimes, status } = setUp();
    atimes.read(status(1, { modified: 1, read: 2 }));
    atimes.close();
    clock.advance(60_000);
    deepEqual(told, []);
    const refused = new Atimes(clock, () => Promise.reject(new Error("away")));
    refused.read(status(1, { modified: 1, read: 2 }));
    await refused.tell();
  });
});
