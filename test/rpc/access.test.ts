import assert from "node:assert/strict";
import fc from "fast-check";
import {
  chmodMode,
  type Guarded,
  isKeptBySticky,
  isMember,
  isOwner,
  mayAccess,
  withoutSetId,
} from "../../src/rpc/access.ts";
import { type Acl, type AclEntry, aclOfMode, modeOfAcl } from "../../src/rpc/acl.ts";
import type { Caller } from "../../src/rpc/namespace.ts";

const owner: Caller = { uid: 1, gid: 10, groups: [] };
const member: Caller = { uid: 2, gid: 99, groups: [7, 10] };
const stranger: Caller = { uid: 3, gid: 30, groups: [31] };
const both: Caller = { uid: 1, gid: 10, groups: [10] };

function file(mode: number): Guarded {
  return { kind: "file", mode, uid: 1, gid: 10 };
}

const letters = ["r", "w", "x"] as const;

/** "rw-" → 6; letters that stand for a permission count, in any order. */
function bits(text: string): number {
  return letters.reduce((sum, letter, i) => sum + (text.includes(letter) ? 4 >> i : 0), 0);
}

/** `user::rw-,user:2:r--,mask::r--` → its entries. */
function aclOf(text: string): Acl {
  return text.split(",").map((entry): AclEntry => {
    const [tag, id, permissions] = entry.split(":") as [string, string, string];
    const named = id === "" ? {} : { id: Number(id) };
    const tags = {
      user: id === "" ? "userObj" : "user",
      group: id === "" ? "groupObj" : "group",
      mask: "mask",
      other: "other",
    } as const;
    return { tag: tags[tag as keyof typeof tags], ...named, permissions: bits(permissions) };
  });
}

describe("access by mode", () => {
  const cases: readonly (readonly [string, number, Caller, string])[] = [
    ["the owner's bits decide for the owner", 0o640, owner, "rw-"],
    ["the group's bits for its members", 0o640, member, "r--"],
    ["the last bits for all others", 0o641, stranger, "--x"],
    ["an owner who may not is not saved by his group", 0o077, both, "---"],
    ["a member who may not is not saved by what others may", 0o707, member, "---"],
    ["what is above the permissions grants nothing", 0o7000, stranger, "---"],
  ];
  for (const [claim, mode, caller, expected] of cases) {
    it(claim, () => {
      for (let wanted = 1; wanted <= 7; wanted++) {
        const allowed = (bits(expected) & wanted) === wanted;
        assert.equal(mayAccess(caller, file(mode), wanted), allowed, `wanted ${wanted}`);
      }
    });
  }

  it("lets the superuser do all but execute what nobody may execute", () => {
    const nobody = file(0);
    assert.ok(mayAccess(undefined, nobody, 6));
    assert.ok(!mayAccess(undefined, nobody, 1));
    assert.ok(!mayAccess(undefined, file(0o666), 5));
    assert.ok(mayAccess(undefined, file(0o001), 7));
    assert.ok(mayAccess(undefined, { ...nobody, kind: "directory" }, 7));
  });
});

describe("access by a list", () => {
  const list =
    "user::rwx,user:2:r--,user:4:rw-,group::r--,group:30:rw-,group:31:--x,mask::r-x,other::--x";
  const cases: readonly (readonly [string, Caller, string])[] = [
    ["the owner is not masked", { uid: 1, gid: 0, groups: [] }, "rwx"],
    ["a named user is", { uid: 4, gid: 0, groups: [] }, "r--"],
    ["a named user gets no more from his groups", { uid: 2, gid: 31, groups: [30, 31] }, "r--"],
    ["the owning group is masked", { uid: 9, gid: 10, groups: [] }, "r--"],
    ["a named group is masked", { uid: 9, gid: 30, groups: [] }, "r--"],
    ["who belongs to a group is no other", { uid: 9, gid: 31, groups: [] }, "--x"],
    ["all others have what others have", { uid: 9, gid: 40, groups: [] }, "--x"],
  ];
  for (const [claim, caller, expected] of cases) {
    it(claim, () => {
      for (let wanted = 1; wanted <= 7; wanted++) {
        const allowed = (bits(expected) & wanted) === wanted;
        assert.equal(
          mayAccess(caller, file(0o750), wanted, aclOf(list)),
          allowed,
          `wanted ${wanted}`,
        );
      }
    });
  }

  it("grants what one entry of the groups grants, and not what two of them grant together", () => {
    const acl = aclOf("user::---,group::r--,group:30:-w-,mask::rwx,other::---");
    const inBoth = { uid: 9, gid: 10, groups: [30] };
    assert.ok(mayAccess(inBoth, file(0o070), 4, acl));
    assert.ok(mayAccess(inBoth, file(0o070), 2, acl));
    assert.ok(!mayAccess(inBoth, file(0o070), 6, acl));
  });
});

describe("access", () => {
  const id = fc.integer({ min: 1, max: 4 });
  const permissions = fc.integer({ min: 0, max: 7 });
  const caller = fc.record({ uid: id, gid: id, groups: fc.array(id, { maxLength: 3 }) });
  const list = fc
    .record({
      users: fc.uniqueArray(fc.tuple(id, permissions), { selector: ([key]) => key, maxLength: 3 }),
      groups: fc.uniqueArray(fc.tuple(id, permissions), { selector: ([key]) => key, maxLength: 3 }),
      userObj: permissions,
      groupObj: permissions,
      mask: permissions,
      other: permissions,
    })
    .map(({ users, groups, ...of }): Acl => {
      const named = (tag: "user" | "group", of: readonly [number, number][]) =>
        of.map(([key, each]) => ({ tag, id: key, permissions: each }));
      return [
        { tag: "userObj", permissions: of.userObj },
        ...named("user", users),
        { tag: "groupObj", permissions: of.groupObj },
        ...named("group", groups),
        { tag: "mask", permissions: of.mask },
        { tag: "other", permissions: of.other },
      ];
    });

  /** The text of POSIX 1003.1e, 23.1.7, for one inode and one caller, as sets of letters. */
  function plainAnswer(who: Caller, of: Guarded, wanted: readonly string[], acl: Acl): boolean {
    const setOf = (value: number) => new Set<string>(letters.filter((_, i) => value & (4 >> i)));
    const find = (tag: string, key?: number) => {
      const entry = acl.find((each) => each.tag === tag && each.id === key);
      return entry === undefined ? undefined : setOf(entry.permissions);
    };
    const mask = find("mask") ?? setOf(7);
    const hasAll = (granted: Set<string>) => wanted.every((each) => granted.has(each));
    if (who.uid === of.uid) return hasAll(find("userObj")!);
    const named = find("user", who.uid);
    if (named !== undefined) return hasAll(named) && hasAll(mask);
    let belongs = false;
    for (const group of new Set([who.gid, ...who.groups])) {
      if (group === of.gid) {
        belongs = true;
        if (hasAll(find("groupObj")!) && hasAll(mask)) return true;
      }
      const entry = find("group", group);
      if (entry === undefined) continue;
      belongs = true;
      if (hasAll(entry) && hasAll(mask)) return true;
    }
    return belongs ? false : hasAll(find("other")!);
  }

  const wanted = fc.subarray([...letters], { minLength: 1 });
  const inode = (mode: number, uid: number, gid: number): Guarded => ({
    kind: "file",
    mode,
    uid,
    gid,
  });

  it("is what the standard's text says, whatever the list and the caller", () => {
    fc.assert(
      fc.property(caller, list, id, id, wanted, (who, acl, uid, gid, asked) => {
        const of = inode(modeOfAcl(acl, 0), uid, gid);
        const expected = plainAnswer(who, of, asked, acl);
        assert.equal(mayAccess(who, of, bits(asked.join("")), acl), expected);
      }),
      { numRuns: 3000 },
    );
  });

  it("is the same by a mode and by the list that says the same", () => {
    const mode = fc.integer({ min: 0, max: 0o7777 });
    fc.assert(
      fc.property(caller, mode, id, id, wanted, (who, bitsOf, uid, gid, asked) => {
        const of = inode(bitsOf, uid, gid);
        const value = bits(asked.join(""));
        assert.equal(mayAccess(who, of, value), mayAccess(who, of, value, aclOfMode(bitsOf)));
        assert.equal(mayAccess(who, of, value), plainAnswer(who, of, asked, aclOfMode(bitsOf)));
      }),
      { numRuns: 2000 },
    );
  });
});

describe("ownership", () => {
  it("is that of the owner and of the superuser, and no group's", () => {
    assert.ok(isOwner(owner, file(0)));
    assert.ok(isOwner(undefined, file(0)));
    assert.ok(!isOwner(member, file(0)));
  });

  it("a caller belongs to his own group and to his further ones", () => {
    assert.ok(isMember(member, 99));
    assert.ok(isMember(member, 7));
    assert.ok(!isMember(member, 2));
  });

  it("a sticky directory leaves names to the owners of files, of the directory, and the superuser", () => {
    const directory = { mode: 0o1777, uid: 1 };
    assert.ok(isKeptBySticky(stranger, directory, { uid: 2 }));
    assert.ok(!isKeptBySticky(stranger, directory, { uid: 3 }));
    assert.ok(!isKeptBySticky(owner, directory, { uid: 2 }));
    assert.ok(!isKeptBySticky(undefined, directory, { uid: 2 }));
    assert.ok(!isKeptBySticky(stranger, { ...directory, mode: 0o777 }, { uid: 2 }));
  });

  it("nobody sets a group id that is not his", () => {
    assert.equal(chmodMode(owner, 0o6755, 10), 0o6755);
    assert.equal(chmodMode(owner, 0o6755, 11), 0o4755);
    assert.equal(chmodMode(undefined, 0o6755, 11), 0o6755);
  });

  it("what somebody else has changed runs with nobody's rights", () => {
    assert.equal(withoutSetId(file(0o6755)), 0o755);
    // Without execution by the group, setgid asks for mandatory locks.
    assert.equal(withoutSetId(file(0o6745)), 0o2745);
    assert.equal(withoutSetId({ ...file(0o6755), kind: "directory" }), 0o6755);
    assert.equal(withoutSetId(file(0o1755)), 0o1755);
  });
});
