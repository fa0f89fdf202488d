import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import {
  digestOf,
  nameOf,
  objectNameOf,
  type ParsedName,
  parseName,
  partOf,
} from "../../src/ufs/s3-names.ts";

/** Parts of keys as they come, and as they are hard. */
const hard = [
  "",
  ".",
  "..",
  "%S3%",
  "%S3%%",
  "%S3%a",
  "%B%",
  "%B%%FF",
  "%B%a",
  "a\0b",
  "é%",
  "%00",
];
const part = fc.oneof(
  fc.constantFrom(...hard),
  fc.string({ unit: "binary", maxLength: 20 }).map((text) => text.replaceAll("/", "")),
  fc.string({ unit: fc.constantFrom("%", "S", "3", "B", ".", "2", "5", "E", "F", "\0", "#") }),
  fc
    .string({ unit: "grapheme", minLength: 120, maxLength: 600 })
    .map((text) => text.replaceAll("/", "")),
);
const name = fc
  .oneof(
    fc
      .uint8Array({ minLength: 1, maxLength: 20 })
      .map((bytes) => Buffer.from(bytes).toString("latin1")),
    part.map((text) => Buffer.from(text).toString("latin1")),
  )
  .filter((each) => each !== "" && each !== "." && each !== ".." && each.length <= 255)
  .filter((each) => !/[/\0]/.test(each) && !each.startsWith("%S3%"));

const leadsTo = (parsed: ParsedName, wanted: string): boolean =>
  parsed.kind === "part"
    ? parsed.part === wanted
    : wanted.startsWith(parsed.head) && parsed.digest === digestOf(wanted);

describe("names of keys", () => {
  it("can stand in a directory, lead back to their part, and are never those of another one", () => {
    fc.assert(
      fc.property(part, part, (a, b) => {
        for (const [shown, isObject] of [
          [nameOf(a), false],
          [objectNameOf(a), true],
        ] as const) {
          assert.ok(
            shown.length <= 255 && !/[/\0]/.test(shown) && !["", ".", ".."].includes(shown),
          );
          const parsed = parseName(shown, "Cannot read");
          assert.equal(parsed.isObject, isObject);
          assert.ok(leadsTo(parsed, a), shown);
          if (a !== b) assert.notEqual(shown, isObject ? objectNameOf(b) : nameOf(b));
          assert.notEqual(shown, isObject ? nameOf(b) : objectNameOf(b));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("are kept by their bytes, be they UTF-8 or not", () => {
    fc.assert(
      fc.property(name, (each) => {
        assert.equal(nameOf(partOf(each)), each);
        assert.equal(partOf(each).includes("/"), false);
      }),
      { numRuns: 2000 },
    );
  });

  it("say what they say", () => {
    const shown = (each: string) => Buffer.from(nameOf(each), "latin1").toString();
    assert.deepEqual(["", ".", "..", "a", "é", "%S3%x", "50%", "a\0b"].map(shown), [
      "%S3%",
      "%S3%%2E",
      "%S3%%2E%2E",
      "a",
      "é",
      "%S3%%25S3%25x",
      "50%",
      "%S3%a%00b",
    ]);
    assert.deepEqual([objectNameOf("a"), objectNameOf("")], ["%S3%a%", "%S3%%"]);
    assert.equal(partOf("caf\xe9"), "%B%caf%E9");
    assert.match(nameOf("x".repeat(300)), /^%S3%x{180}%#[0-9a-f]{32}$/);
  });

  it("are refused where no key would be shown so", () => {
    for (const wrong of ["%S3%a", "%S3%%41", "%S3%%%", "%S3%%2e", "%S3%a%2"]) {
      assert.throws(
        () => parseName(wrong, "Cannot read"),
        (thrown) => hasCode(thrown, "InvalidArgument"),
      );
    }
  });
});
