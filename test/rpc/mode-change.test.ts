import assert from "node:assert/strict";
import fc from "fast-check";
import {
  changedMode,
  flawOfModeChange,
  modeChange,
  parseModeChange,
} from "../../src/rpc/mode-change.ts";
import { decode, encode } from "../../src/lib/schema.ts";

/** Text, mode before, mode after; of files unless said otherwise. As GNU chmod does it, with a umask of 0. */
const cases: readonly (readonly [string, number, number, "directory"?])[] = [
  ["755", 0o600, 0o755],
  ["0", 0o7777, 0],
  ["4755", 0o600, 0o4755],
  ["u+x", 0o644, 0o744],
  ["+x", 0o644, 0o755],
  ["a-w", 0o666, 0o444],
  ["go=", 0o777, 0o700],
  ["go=rx", 0o700, 0o755],
  ["u=rwx,g=rx,o=r", 0o000, 0o754],
  ["g=u", 0o740, 0o770],
  ["o+g", 0o740, 0o744],
  ["u-o", 0o747, 0o047],
  ["a+X", 0o644, 0o644],
  ["a+X", 0o744, 0o755],
  ["a+X", 0o644, 0o755, "directory"],
  ["u=rwX,go=rX", 0o600, 0o755, "directory"],
  ["u=rwX,go=rX", 0o600, 0o644],
  ["u+s", 0o755, 0o4755],
  ["g+s", 0o755, 0o2755],
  ["o+s", 0o755, 0o755],
  ["+t", 0o777, 0o1777, "directory"],
  ["u+t", 0o777, 0o777],
  ["u=rw", 0o4755, 0o655],
  ["u=rwx,g=rx", 0o6755, 0o6755, "directory"],
  ["a=", 0o7777, 0],
  ["u+x-w", 0o644, 0o544],
];

describe("changes of permission bits", () => {
  for (const [text, before, after, kind] of cases) {
    it(`${text} makes ${before.toString(8)} to ${after.toString(8)}${kind ? " of a directory" : ""}`, () => {
      const change = decode(modeChange, encode(modeChange, parseModeChange(text)), "change");
      assert.equal(
        changedMode(change, before, kind === "directory").toString(8),
        after.toString(8),
      );
    });
  }

  it("refuse what is no mode, and say what is one", () => {
    for (const text of [
      "",
      "8",
      "77777",
      "u",
      "u+y",
      "x+r",
      "u+rw,",
      "u+gw",
      "rwx",
      "+ug",
      " 755",
    ]) {
      assert.throws(
        () => parseModeChange(text),
        { code: "InvalidArgument", message: /wanted octal digits/ },
        text,
      );
    }
  });

  it("stay within twelve bits, and are the same when they are made twice unless they copy", () => {
    const part = fc.tuple(
      fc.constantFrom("", "u", "g", "o", "ug", "a", "uo"),
      fc.constantFrom("+", "-", "="),
      fc.constantFrom("", "r", "w", "x", "X", "s", "t", "rw", "rwx", "rX", "xst"),
    );
    fc.assert(
      fc.property(
        part,
        fc.integer({ min: 0, max: 0o7777 }),
        fc.boolean(),
        ([who, sign, what], mode, isDirectory) => {
          const change = parseModeChange(`${who}${sign}${what}`);
          assert.equal(flawOfModeChange(change), undefined);
          const once = changedMode(change, mode, isDirectory);
          assert.ok(once >= 0 && once <= 0o7777);
          // X looks at the mode that it changes.
          if (!what.includes("X")) assert.equal(changedMode(change, once, isDirectory), once);
        },
      ),
    );
  });

  it("of a stranger are looked at before they are taken", () => {
    const flaw = (who: number, permissions: number) =>
      flawOfModeChange({
        absolute: undefined,
        clauses: [{ who, operation: "add", permissions, copied: undefined }],
      });
    assert.match(flaw(8, 1) ?? "", /8 of 1/);
    assert.match(flaw(0, 1) ?? "", /0 of 1/);
    assert.match(flaw(1, 64) ?? "", /1 of 64/);
    assert.match(flawOfModeChange({ absolute: 0o10000, clauses: [] }) ?? "", /4096/);
  });
});
