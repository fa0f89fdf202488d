/** Step 1: a leader, all workers and the mount are there; asked from outside, by the CLI. */
import { durationText } from "../../output.ts";
import { expectEqual, type Step, StepFailure } from "../step.ts";

interface StatusAnswer {
  readonly leader?: string;
  readonly masters: readonly { readonly role: string }[];
  readonly workers: readonly { readonly state: string }[];
  readonly mount: { readonly mounted: boolean };
}

export const clusterUp: Step = {
  title: "Cluster up",
  async run({ cluster, runner, mount }) {
    const status = await runner.weirJson<StatusAnswer>(["status"]);
    const { logs } = cluster.layout;
    if (status.leader === undefined) throw new StepFailure("a leader", "none", logs);
    const following = status.masters.filter((master) => master.role === "follower").length;
    expectEqual("followers", following, cluster.masters.length - 1, logs);
    const live = status.workers.filter((worker) => worker.state === "live").length;
    expectEqual("live workers", live, cluster.workers.length, logs);
    if (mount !== undefined && !status.mount.mounted) {
      throw new StepFailure(`a mount at ${mount}`, "none", cluster.mount?.log);
    }
    return [
      `serving ${durationText(cluster.upAfterMs)} after the first process`,
      `leader ${status.leader}, ${String(following)} followers, ${String(live)} workers`,
      mount === undefined ? "no mount (--no-fuse)" : "mounted at mnt",
    ];
  },
};
