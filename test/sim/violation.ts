/** What a simulation ends with when something does not hold that must. */
export class Violation extends Error {}

/** @throws Violation with the claim, which is put together only then */
export function require(holds: boolean, claim: () => string): asserts holds {
  if (!holds) throw new Violation(claim());
}
