import assert from "node:assert/strict";
import { parseCaller, parseGroup, parseOwnership } from "../../src/cli/users.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { usersOf } from "../../src/lib/user-files.ts";

const users = usersOf({
  passwd: "root:x:0:0::/:/bin/sh\nann:x:1000:100::/:\n42:x:7:8::/:\n",
  group: "root:x:0:\nusers:x:100:\nsudo:x:27:ann\n42:x:9:\n",
});

describe("users as people type them", () => {
  it("are owners by name or number, with a group, without one, or with their own", () => {
    assert.deepEqual(parseOwnership("ann", users), { uid: 1000, gid: undefined });
    assert.deepEqual(parseOwnership("1001", users), { uid: 1001, gid: undefined });
    assert.deepEqual(parseOwnership("ann:sudo", users), { uid: 1000, gid: 27 });
    assert.deepEqual(parseOwnership(":5", users), { uid: undefined, gid: 5 });
    assert.deepEqual(parseOwnership("ann:", users), { uid: 1000, gid: 100 });
    // A user whose name is a number.
    assert.deepEqual(parseOwnership("42", users), { uid: 7, gid: undefined });
  });

  it("act with the groups that are known of them, or that are said", () => {
    assert.deepEqual(parseCaller("ann", users), { uid: 1000, gid: 100, groups: [27] });
    assert.deepEqual(parseCaller("5:6,sudo", users), { uid: 5, gid: 6, groups: [27] });
  });

  it("are refused with what was typed when they mean nobody", () => {
    const typed: [string, () => unknown][] = [
      ["eve", () => parseOwnership("eve", users)],
      ["", () => parseOwnership("", users)],
      [":", () => parseOwnership(":", users)],
      ["5:", () => parseOwnership("5:", users)],
      ["4294967295", () => parseOwnership("4294967295", users)],
      ["wheel", () => parseGroup("wheel", users)],
      ["1001", () => parseCaller("1001", users)],
    ];
    for (const [text, parse] of typed) {
      assert.throws(parse, (thrown) => {
        assert.ok(hasCode(thrown, "InvalidArgument"));
        return thrown.message.startsWith(`Cannot use "${text}": `);
      });
    }
  });
});
