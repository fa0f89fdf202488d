import assert from "node:assert/strict";
import fc from "fast-check";
import { compileGlob } from "../../src/lib/glob.ts";

const yes: readonly (readonly [string, readonly string[]])[] = [
  ["*", ["a", "a/b", ".hidden"]],
  ["*.csv", ["x.csv", "deep/er/x.csv", ".csv"]],
  ["logs/*", ["logs/a"]],
  ["logs/**", ["logs/a", "logs/a/b", "logs/"]],
  ["**/a", ["a", "b/a", "b/c/a"]],
  ["x/**/y", ["x/y", "x/1/y", "x/1/2/y"]],
  ["a?c", ["abc", "dir/a-c"]],
  ["[a-c]x[!0-9]", ["axz", "cx-"]],
  ["[]]", ["]"]],
  ["\\*", ["*"]],
  ["a/b", ["a/b"]],
];
const no: readonly (readonly [string, readonly string[]])[] = [
  ["*.csv", ["x.csv.gz", "csv"]],
  ["logs/*", ["logs/a/b", "logs", "x/logs/a"]],
  ["**/a", ["ba", "a/b", "b/ca"]],
  ["x/**/y", ["x/1y", "xy", "z/x/y"]],
  ["a?c", ["a/c", "ac"]],
  ["[a-c]x[!0-9]", ["dxz", "ax1", "ax/"]],
  ["\\*", ["a"]],
  ["a/b", ["b", "x/a/b"]],
];

describe("patterns of paths", () => {
  for (const [pattern, paths] of yes) {
    it(`${pattern} fits ${paths.join(", ")}`, () => {
      for (const path of paths) assert.equal(compileGlob(pattern)(path), true, path);
    });
  }
  for (const [pattern, paths] of no) {
    it(`${pattern} does not fit ${paths.join(", ")}`, () => {
      for (const path of paths) assert.equal(compileGlob(pattern)(path), false, path);
    });
  }

  it("refuse what is none, and say why", () => {
    for (const pattern of ["", "[a", "[", "a\\", "x".repeat(1025)]) {
      assert.throws(() => compileGlob(pattern), { code: "InvalidArgument" }, pattern);
    }
  });

  it("fit what a search of all ways finds", () => {
    const letter = fc.constantFrom("a", "b", "/", "*", "**", "?");
    fc.assert(
      fc.property(fc.array(letter, { minLength: 1, maxLength: 7 }), path(), (parts, text) => {
        const pattern = parts.join("");
        assert.equal(compileGlob(pattern)(text), searched(pattern, text), `${pattern} ${text}`);
      }),
      { numRuns: 2000, examples: [[["**", "/", "**", "/", "b", "**"], "b/a"]] },
    );
  });

  it("take no longer for patterns that have many ways to fit", () => {
    const pattern = `${"**a".repeat(300)}b/`;
    assert.equal(compileGlob(pattern)("a".repeat(4000)), false);
  });
});

function path(): fc.Arbitrary<string> {
  const name = fc.constantFrom("a", "b", "ab", "ba", "aab");
  return fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join("/"));
}

/** By trying every way. */
function searched(pattern: string, text: string): boolean {
  const stars = pattern.replace(/\*\*+/g, "**");
  const target = stars.includes("/") ? text : text.slice(text.lastIndexOf("/") + 1);
  const match = (p: string, t: string, atStart: boolean, patternAtStart: boolean): boolean => {
    if (p === "") return t === "";
    if (p.startsWith("**/") && patternAtStart) {
      // Nothing, at the start of a name, or all up to a slash.
      if (atStart && match(p.slice(3), t, true, true)) return true;
      for (let i = 0; i < t.length; i++) {
        if (t[i] === "/" && match(p.slice(3), t.slice(i + 1), true, true)) return true;
      }
      return false;
    }
    if (p.startsWith("**")) {
      for (let i = 0; i <= t.length; i++) {
        if (match(p.slice(2), t.slice(i), i === 0 ? atStart : t[i - 1] === "/", false)) return true;
      }
      return false;
    }
    if (p[0] === "*") {
      for (let i = 0; i <= t.length; i++) {
        if (match(p.slice(1), t.slice(i), i === 0 && atStart, false)) return true;
        if (t[i] === "/") return false;
      }
      return false;
    }
    if (t === "") return false;
    const isFit = p[0] === "?" ? t[0] !== "/" : p[0] === t[0];
    return isFit && match(p.slice(1), t.slice(1), t[0] === "/", p[0] === "/");
  };
  return match(stars, target, true, true);
}
