import assert from "node:assert/strict";
import { parseBytes, parseDuration } from "../../src/cli/quantities.ts";

describe("quantities as people type them", () => {
  it("are durations in milliseconds", () => {
    const texts = ["250ms", "90s", "15m", "15min", "1.5h", "30d", "2w"];
    const wanted = [250, 90_000, 900_000, 900_000, 5_400_000, 2_592_000_000, 1_209_600_000];
    assert.deepEqual(texts.map(parseDuration), wanted);
  });

  it("are sizes in bytes, decimal or binary", () => {
    const texts = ["0", "4096", "10MB", "10 mb", "1.5GiB", "2T", "1kib", "7B"];
    const wanted = [0, 4096, 1e7, 1e7, 1.5 * 2 ** 30, 2e12, 1024, 7];
    assert.deepEqual(texts.map(parseBytes), wanted);
  });

  it("are refused with what would be right", () => {
    for (const text of ["", "5", "d", "-3d", "3 years", "1e3s", "9999999999999999d"]) {
      assert.throws(() => parseDuration(text), /wanted a duration such as 90s/, text);
    }
    for (const text of ["", "MB", "-1", "1PBs", "0x10", "99999999999TB"]) {
      assert.throws(() => parseBytes(text), /wanted a size such as 4096/, text);
    }
  });
});
