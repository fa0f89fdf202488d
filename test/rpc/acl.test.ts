/** Access control lists as values: the kernel's binary form, and what a mode and a list make of each other. */
import { deepEqual, equal, match } from "node:assert/strict";
import fc from "fast-check";
import {
  type Acl,
  aclFault,
  aclOfMode,
  chmodAcl,
  decodeAcl,
  encodeAcl,
  inheritedAcl,
  isEquivalentToMode,
  maxAclEntries,
  modeOfAcl,
} from "../../src/rpc/acl.ts";

const permissions = fc.integer({ min: 0, max: 7 });
const ids = fc.uniqueArray(fc.integer({ min: 0, max: 0xffff_fffe }), { maxLength: 5 });

/** Any valid list. */
const acl = fc
  .record({ ids, groupIds: ids, hasMask: fc.boolean(), bits: fc.array(permissions) })
  .map(({ ids, groupIds, hasMask, bits }): Acl => {
    let at = 0;
    const next = () => bits[at++] ?? 5;
    const isExtended = ids.length + groupIds.length > 0;
    return [
      { tag: "userObj", permissions: next() },
      ...ids.map((id) => ({ tag: "user" as const, id, permissions: next() })),
      { tag: "groupObj", permissions: next() },
      ...groupIds.map((id) => ({ tag: "group" as const, id, permissions: next() })),
      ...(isExtended || hasMask ? [{ tag: "mask" as const, permissions: next() }] : []),
      { tag: "other", permissions: next() },
    ];
  });

function faultOf(encoded: Uint8Array): string {
  const decoded = decodeAcl(encoded);
  return "fault" in decoded ? decoded.fault : "";
}

describe("access control lists", () => {
  it("have the kernel's binary form", () => {
    const list: Acl = [
      { tag: "userObj", permissions: 6 },
      { tag: "user", id: 1000, permissions: 5 },
      { tag: "groupObj", permissions: 4 },
      { tag: "mask", permissions: 7 },
      { tag: "other", permissions: 0 },
    ];
    const hex =
      "02000000 01000600ffffffff 02000500e8030000 04000400ffffffff 10000700ffffffff 20000000ffffffff";
    equal(Buffer.from(encodeAcl(list)).toString("hex"), hex.replaceAll(" ", ""));
    deepEqual(decodeAcl(encodeAcl(list)), { acl: list });
  });

  it("come back from their binary form as they were", () => {
    fc.assert(fc.property(acl, (list) => deepEqual(decodeAcl(encodeAcl(list)), { acl: list })));
  });

  it("of any bytes are refused or valid, and never throw", () => {
    const damaged = fc
      .tuple(acl, fc.nat(), fc.integer({ min: 0, max: 255 }))
      .map(([list, at, byte]) => {
        const encoded = encodeAcl(list);
        encoded[at % encoded.length] = byte;
        return encoded;
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 100 })), (encoded) => {
        const decoded = decodeAcl(encoded);
        if ("fault" in decoded) return;
        if (decoded.acl.length > 0) equal(aclFault(decoded.acl), undefined);
        equal(encodeAcl(decoded.acl).length, encoded.length);
      }),
      { numRuns: 1000 },
    );
  });

  it("without entries mean that there is none", () => {
    deepEqual(decodeAcl(Uint8Array.of(2, 0, 0, 0)), { acl: [] });
  });

  it("say what is wrong with them", () => {
    const [owner, group, other] = aclOfMode(0o640) as [Acl[0], Acl[0], Acl[0]];
    const mask = { tag: "mask", permissions: 7 } as const;
    const user = { tag: "user", id: 5, permissions: 7 } as const;
    const cases: [Acl, RegExp][] = [
      [[group, owner, other], /"userObj" follows "groupObj"/],
      [[owner, group], /no entry "other"/],
      [[owner, other], /no entry "groupObj"/],
      [[owner, user, group, other], /no "mask"/],
      [[owner, user, user, group, mask, other], /"user:5" is there twice/],
      [[owner, owner, group, other], /"userObj:" is there twice/],
      [[{ ...owner, permissions: 8 }, group, other], /8 are no permissions/],
      [[owner, { tag: "user", permissions: 7 }, group, mask, other], /has no id/],
      [[{ ...owner, id: 3 }, group, other], /has an id/],
      [[owner, { ...user, id: 0xffff_ffff }, group, mask, other], /is no id/],
    ];
    for (const [list, wanted] of cases) match(aclFault(list) ?? "", wanted);
    match(faultOf(Uint8Array.of(1, 0, 0, 0)), /version 1, wanted 2/);
    match(faultOf(new Uint8Array(7)), /no whole number of entries/);
    match(faultOf(Uint8Array.of(2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0)), /3 is the tag of no entry/);
  });

  it("have a bounded length", () => {
    const users = Array.from({ length: maxAclEntries - 3 }, (_, id) => {
      return { tag: "user", id, permissions: 4 } as const;
    });
    const [owner, group, other] = aclOfMode(0o640) as [Acl[0], Acl[0], Acl[0]];
    const list: Acl = [owner, ...users, group, { tag: "mask", permissions: 7 }, other];
    equal(list.length, maxAclEntries + 1);
    match(aclFault(list) ?? "", /1025 entries/);
    match(faultOf(encodeAcl(list)), /at most/);
    equal(aclFault([owner, ...users.slice(1), ...list.slice(-3)]), undefined);
  });

  it("of three entries are just the mode", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0o7777 }), (mode) => {
        equal(isEquivalentToMode(aclOfMode(mode)), true);
        equal(modeOfAcl(aclOfMode(mode), mode), mode);
      }),
    );
  });

  it("show the mask in the group bits of the mode, and chmod changes it", () => {
    const list: Acl = [
      { tag: "userObj", permissions: 7 },
      { tag: "group", id: 9, permissions: 7 },
      { tag: "groupObj", permissions: 1 },
      { tag: "mask", permissions: 6 },
      { tag: "other", permissions: 4 },
    ];
    equal(modeOfAcl(list, 0o2000), 0o2764);
    const changed = chmodAcl(list, 0o4531);
    equal(modeOfAcl(changed, 0o4000), 0o4531);
    deepEqual(changed.slice(1, 3), list.slice(1, 3));
  });

  it("are inherited within what the maker asked for", () => {
    fc.assert(
      fc.property(acl, fc.integer({ min: 0, max: 0o7777 }), (defaults, wanted) => {
        const made = inheritedAcl(defaults, wanted);
        equal(made.mode & ~wanted, 0, "nothing that was not asked for");
        equal(made.mode & 0o7000, wanted & 0o7000);
        equal((made.mode & 0o777 & ~modeOfAcl(defaults, 0)) === 0, true);
        const list = made.acl ?? aclOfMode(made.mode);
        equal(modeOfAcl(list, made.mode), made.mode);
        equal(aclFault(list), undefined);
        // What the mask does not bound stays as it is.
        const named = ({ tag }: Acl[0]) => tag === "user" || tag === "group";
        deepEqual(list.filter(named), defaults.filter(named));
      }),
    );
  });
});
