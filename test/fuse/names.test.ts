import assert from "node:assert/strict";
import fc from "fast-check";
import { parseMountInfo } from "../../src/fuse/mount-point.ts";
import { nameOf, textOf } from "../../src/fuse/names.ts";

const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

describe("names at the mount", () => {
  it("survive the way out and back, whatever their bytes", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      fc
        .string({ unit: "grapheme", minLength: 1 })
        .map((text) => new Uint8Array(Buffer.from(text))),
      fc.constant(Buffer.from("\uF790 \uFFFD")),
    );
    fc.assert(
      fc.property(bytes, (value) => {
        const name = latin1(value);
        const text = textOf(name);
        assert.equal(Buffer.from(text).toString(), text);
        assert.equal(nameOf(text), name);
      }),
    );
  });

  it("are plain text where they are UTF-8", () => {
    assert.equal(textOf(latin1(Buffer.from("größe ✓"))), "größe ✓");
    assert.equal(nameOf("größe ✓"), latin1(Buffer.from("größe ✓")));
  });

  it("are refused where their bytes were lost on the way in", () => {
    assert.throws(() => nameOf("a\uFFFDb"), { code: "InvalidArgument" });
  });
});

describe("the kernel's table of mounts", () => {
  it("is read with spaces in paths and any number of optional fields", () => {
    const table =
      "36 35 0:52 / /mnt/with\\040space rw,nosuid shared:1 master:2 - fuse.weir weir rw,user_id=0\n" +
      "37 35 8:1 / / rw - ext4 /dev/sda1 rw\n";
    assert.deepEqual(parseMountInfo(table), [
      { mountPoint: "/mnt/with space", device: "0:52", type: "fuse.weir" },
      { mountPoint: "/", device: "8:1", type: "ext4" },
    ]);
  });
});
