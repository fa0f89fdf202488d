import assert from "node:assert/strict";
import fc from "fast-check";
import { PathClaims } from "../../../src/master/services/path-claims.ts";

const path = fc
  .array(fc.constantFrom("a", "b", "ab"), { maxLength: 4 })
  .map((parts) => parts.join("/"));

const isAboveOrEqual = (a: string, b: string) => a === "" || a === b || b.startsWith(`${a}/`);

describe("PathClaims", () => {
  it("finds exactly the equal, higher and lower paths", () => {
    fc.assert(
      fc.property(fc.array(path, { maxLength: 6 }), path, (claimed, asked) => {
        const claims = new PathClaims();
        claims.claim(claimed);
        const wanted = claimed.some(
          (each) => isAboveOrEqual(each, asked) || isAboveOrEqual(asked, each),
        );
        assert.equal(claims.conflict([asked]), wanted);
      }),
    );
  });
});
