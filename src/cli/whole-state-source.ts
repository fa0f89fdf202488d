/** Which master to ask for all of its state: any has it, and the leader has other things to do. */
import type { Config } from "../lib/config.ts";
import { WeirError } from "../lib/errors.ts";
import { type MasterView, viewCluster } from "./cluster-view.ts";

/** A follower that is at most so many entries behind the leader is as good a source as the leader. */
const freshEntries = 1000;

/** The master `from`, or the best one. */
export async function sourceOf(
  config: Config,
  from: string | undefined,
): Promise<{ host: string; port: number }> {
  const named = config.masters.find((master) => master.name === from);
  if (from !== undefined && named === undefined) {
    const known = config.masters.map((master) => master.name).join(", ");
    throw new WeirError(
      "InvalidArgument",
      `Cannot use the master "${from}": there is none of that name, wanted one of ${known}`,
    );
  }
  const chosen = named?.name ?? bestSource((await viewCluster(config)).masters)?.name;
  const found = config.masters.find((master) => master.name === chosen);
  if (found === undefined) {
    throw new WeirError("Unavailable", "no master answers: weir status shows what is missing");
  }
  return { host: found.host, port: found.rpcPort };
}

function bestSource(masters: readonly MasterView[]): MasterView | undefined {
  const answering = masters.filter((master) => master.appliedIndex !== undefined);
  const furthest = Math.max(...answering.map((master) => master.appliedIndex!));
  const fresh = answering.filter((master) => master.appliedIndex! >= furthest - freshEntries);
  return fresh.find((master) => master.role !== "leader") ?? fresh[0];
}
