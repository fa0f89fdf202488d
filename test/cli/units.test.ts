import assert from "node:assert/strict";
import fc from "fast-check";
import { parseDuration, parseMode, parseNumber, parseSize, spanText } from "../../src/cli/units.ts";

describe("figures that people type", () => {
  it("are read with their units", () => {
    assert.equal(parseSize("10GiB"), 10 * 2 ** 30);
    assert.equal(parseSize("1.5 kB"), 1500);
    assert.equal(parseSize("4096"), 4096);
    assert.equal(parseNumber("1M"), 1_000_000);
    assert.equal(parseDuration("90s"), 90_000);
    assert.equal(parseDuration("7d"), 604_800_000);
    assert.equal(parseMode("0750"), 0o750);
  });

  it("are refused where a unit is not known, or where they are no figures", () => {
    const bad = ["", "GiB", "-1", "1e3", "10gib", "1 2", "0x10", "9999999PiB", "NaN"];
    for (const text of bad) assert.throws(() => parseSize(text), /wanted a size/, text);
    assert.throws(() => parseDuration("5 m"), /wanted a duration/);
    assert.throws(() => parseNumber("1MB"), /wanted a number/);
    for (const text of ["8", "", "-7", "7777777"]) assert.throws(() => parseMode(text), /octal/);
  });

  it("are shown in a unit that reads as the same duration", () => {
    fc.assert(
      fc.property(fc.nat(), (durationMs) => {
        assert.equal(parseDuration(spanText(durationMs)), durationMs);
      }),
    );
    assert.equal(spanText(604_800_000), "1 w");
    assert.equal(spanText(5_400_000), "90 min");
  });
});
