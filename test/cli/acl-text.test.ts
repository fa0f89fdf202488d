/** Access control lists as people write and read them. */
import { deepEqual, equal, throws } from "node:assert/strict";
import fc from "fast-check";
import { aclLines, parseAclText, withEntries, withoutEntries } from "../../src/cli/acl-text.ts";
import { type Acl, aclFault, aclOfMode } from "../../src/rpc/acl.ts";

const plain = { isDefault: false, isNaming: false };

function access(text: string): Acl {
  return parseAclText(text, plain).access;
}

describe("access entries as text", () => {
  it("may be short or long, in letters or a digit, of both lists", () => {
    deepEqual(
      parseAclText("u::rw-,user:10:r, g:20:5\nm:rx # all\no::-,d:u:10:rwx,default:o:r", plain),
      {
        access: [
          { tag: "userObj", permissions: 6 },
          { tag: "user", id: 10, permissions: 4 },
          { tag: "group", id: 20, permissions: 5 },
          { tag: "mask", permissions: 5 },
          { tag: "other", permissions: 0 },
        ],
        defaults: [
          { tag: "user", id: 10, permissions: 7 },
          { tag: "other", permissions: 4 },
        ],
      },
    );
    const naming = parseAclText("u:10,d:g:20,m", { isDefault: false, isNaming: true });
    deepEqual(naming.access, [
      { tag: "user", id: 10, permissions: 0 },
      { tag: "mask", permissions: 0 },
    ]);
    deepEqual(naming.defaults, [{ tag: "group", id: 20, permissions: 0 }]);
    deepEqual(parseAclText("u:1:r", { ...plain, isDefault: true }).access, []);
  });

  it("are refused with the entry and what is wrong with it", () => {
    for (const [text, wanted] of [
      ["u:me:r", /"u:me:r": "me" is no number/],
      ["u:4294967295:r", /no number/],
      ["x::r", /wanted user, group, mask or other/],
      ["u::rwz", /"rwz" are no permissions/],
      ["u::8", /"8" are no permissions/],
      ["u:10", /with permissions/],
      ["u:10:r:w", /with permissions/],
      ["m:10:r", /nobody by number/],
      ["", /no entries/],
      ["d", /wanted user/],
    ] as const) {
      throws(() => access(text), wanted, text);
    }
    throws(() => parseAclText("u:10:r", { ...plain, isNaming: true }), /without permissions/);
  });

  it("read as they were written", () => {
    const entries = "user::rwx,user:5:r-x,group::r--,group:7:-w-,mask::rwx,other::---";
    equal(aclLines(access(entries)).join(","), entries);
  });

  it("say what the mask takes away", () => {
    deepEqual(aclLines(access("u::rwx,u:5:rwx,g::rx,m::r,o::x")).slice(1, 3), [
      "user:5:rwx\t#effective:r--",
      "group::r-x\t#effective:r--",
    ]);
  });
});

describe("changes of access control lists", () => {
  it("bring a mask that grants all that is granted, unless it is said or kept", () => {
    const list = withEntries(aclOfMode(0o741), access("u:5:rw"), false);
    equal(aclLines(list).join(","), "user::rwx,user:5:rw-,group::r--,mask::rw-,other::--x");
    const said = withEntries(list, access("u:6:rwx,m::r"), false);
    equal(aclLines(said)[4], "mask::r--");
    equal(aclLines(withEntries(said, access("u:7:rwx"), true)).at(-2), "mask::r--");
    equal(aclLines(withoutEntries(said, access("u:6:-"), false))[3], "mask::rw-");
  });

  it("keep lists valid, whatever is added", () => {
    const entry = fc.record({
      tag: fc.constantFrom("u", "g"),
      id: fc.nat(5),
      permissions: fc.nat(7),
      keepsMask: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 8 }), (entries) => {
        let list = aclOfMode(0o640);
        for (const { tag, id, permissions, keepsMask } of entries) {
          list = withEntries(list, access(`${tag}:${id}:${permissions}`), keepsMask);
          equal(aclFault(list), undefined);
        }
        for (const { tag, id, permissions } of entries) {
          const named = access(`${tag}:${id}:${permissions}`);
          if (!list.some((each) => each.tag === named[0]!.tag && each.id === id)) continue;
          list = withoutEntries(list, named, false);
          equal(aclFault(list), undefined);
        }
      }),
    );
  });

  it("refuse to remove what is not there, or what must be", () => {
    throws(() => withoutEntries(aclOfMode(0o640), access("u:5:r"), false), /no such entry/);
    throws(() => withoutEntries(aclOfMode(0o640), access("o::r"), false), /no entry "other"/);
  });
});
