import { systemClock } from "../../../src/lib/clock.ts";
import { Pauses } from "../../../src/master/services/pauses.ts";
import { eventually } from "../../lib/eventually.ts";

describe("Pauses", () => {
  it("know the longest time without a turn, and forget it after some seconds", async function () {
    this.timeout(30_000);
    const pauses = new Pauses(systemClock);
    try {
      // What passes before the first look is not seen.
      await eventually("a pause to be seen", () => {
        for (const end = performance.now() + 200; performance.now() < end; );
        return pauses.longestMs >= 150;
      });
      await eventually("the pause to be forgotten", () => pauses.longestMs < 150);
    } finally {
      pauses.close();
    }
  });
});
