/** What facts say that only one of the two places has which should both have them. Pure. */
import type { InodeId } from "../../lib/ids.ts";
import { shownKey } from "./check-context.ts";
import type { Found } from "./finding.ts";
import type { Difference } from "./relation.ts";

/** The findings, in the order of the facts. */
export function* foundIn(differences: readonly Difference[]): Generator<Found, void> {
  for (const { fact, excess } of differences) {
    const [kind, inode, ...rest] = fact.split("\0");
    const found = describe(kind!, rest, excess);
    yield { ...found, inode: Number(inode) as InodeId, subject: `inode ${inode!}` };
  }
}

function describe(
  kind: string,
  rest: readonly string[],
  excess: number,
): Pick<Found, "check" | "is" | "wanted"> {
  if (kind === "name") {
    const [parent, fileKind, mount, name] = rest as [string, string, string, string];
    const where = mount === "0" ? "" : ` on mount ${mount}`;
    const what = `the name ${shownKey(name)} as a ${fileKind}${where}`;
    return {
      check: "names",
      is:
        excess > 0
          ? `has ${what} in directory ${parent}, and does not know it`
          : `has ${what}, and directory ${parent} does not know it`,
      wanted: "both say the same",
    };
  }
  if (kind === "kept") {
    const [worker, writeId] = rest as [string, string];
    const who = `worker ${worker}`;
    return {
      check: "keepers",
      is:
        excess > 0
          ? `container ${writeId} is kept by ${who}, and does not say so`
          : `container ${writeId} names keeper ${who}, who has no such duty`,
      wanted: "both say the same",
    };
  }
  if (kind === "lease") {
    const who = `session ${rest[0]!}`;
    return {
      check: "leases",
      is:
        excess > 0
          ? `${who} has its lease, and it does not say so`
          : `it names the lease of ${who}, which has none`,
      wanted: "both say the same",
    };
  }
  if (kind === "usage") {
    const part = rest[0]!;
    return {
      check: "usage",
      is: `says ${Math.abs(excess)} ${excess > 0 ? "more" : "fewer"} ${part} than there are`,
      wanted: "the sum of what lies in it",
    };
  }
  return {
    check: "holds",
    is:
      excess > 0
        ? `${excess} sessions hold it that it does not count`
        : `it counts ${-excess} holds that no session has`,
    wanted: "as many as there are",
  };
}
