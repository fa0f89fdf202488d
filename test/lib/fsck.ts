/** The checker of a live master, for the end of tests with faults. */
import type { RpcClient } from "../../src/rpc/client.ts";
import type { Finding } from "../../src/rpc/fsck-items.ts";
import { masterApi } from "../../src/rpc/master-api.ts";

/** What does not fit together in the state of a master. Faults may well lose bytes, and leave copies: that is no damage. */
export async function damageIn(master: RpcClient): Promise<Finding[]> {
  const { signal } = new AbortController();
  const request = { rowsPerSecond: 0, limit: 1000 };
  for await (const item of master.stream(masterApi.fsck, request, { signal })) {
    if (item.kind !== "end") continue;
    return item.findings.filter(({ check }) => check !== "lost" && check !== "orphan");
  }
  throw new Error("the check of a master ended before its end");
}
