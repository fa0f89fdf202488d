/** Usage of directories and policies on paths, for whoever works with paths. Paths are latin1 strings. */
import { WeirError } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import { type FileStatus, type InodeUsage, wholeUsage } from "../rpc/namespace.ts";
import {
  type EffectivePolicy,
  noPolicy,
  type PathPolicy,
  type PolicyKey,
} from "../rpc/path-policy.ts";
import type { Session } from "./session.ts";

/** A policy that somebody set, and where. */
export interface SetPolicy {
  readonly inode: InodeId;
  /** Empty: what has the policy is being removed. */
  readonly path: string;
  readonly policy: PathPolicy;
}

export interface TtlClock {
  readonly trusted: boolean;
  readonly driftMs: number;
  readonly toleranceMs: number;
}

const pageLimit = 500;

export class PathPolicies {
  readonly #masters: MasterConnection;
  readonly #session: Session;
  readonly #deadlineMs: number;
  readonly #stat: (path: string) => Promise<FileStatus>;

  constructor(options: {
    masters: MasterConnection;
    session: Session;
    deadlineMs: number;
    stat: (path: string) => Promise<FileStatus>;
  }) {
    this.#masters = options.masters;
    this.#session = options.session;
    this.#deadlineMs = options.deadlineMs;
    this.#stat = options.stat;
  }

  /** What lies below a directory, as it is kept up to date: nothing is walked. Of a file, the file. */
  async usage(path: string): Promise<InodeUsage> {
    const { inode } = await this.#stat(path);
    const [found] = await this.usageOf([inode]);
    if (found !== undefined) return found;
    throw new WeirError("NotFound", `Cannot count "${path}": it was removed meanwhile`);
  }

  /** As `usage`, of up to 1,000 inodes; those that are gone are left out. */
  async usageOf(inodes: readonly InodeId[]): Promise<readonly InodeUsage[]> {
    const request = { inodes, consistency: "linearizable" } as const;
    const { usages } = await this.#masters.call(masterApi.usageOf, request, this.#options);
    return usages.map((each) => ({ ...each, usage: wholeUsage(each.usage) }));
  }

  /** What is said for the path itself, and what holds there with where it is said. */
  async get(path: string): Promise<{ own: PathPolicy; effective: EffectivePolicy }> {
    const { inode } = await this.#stat(path);
    const request = { inode, consistency: "linearizable" } as const;
    return await this.#masters.call(masterApi.policyOf, request, this.#options);
  }

  /** Sets the given keys; the others stay as they are. */
  async set(path: string, policy: Partial<PathPolicy>): Promise<void> {
    const { inode } = await this.#stat(path);
    await this.#session.execute(
      { kind: "setPathPolicy", inode, policy: { ...noPolicy, ...policy } },
      `Cannot set the policy of "${path}"`,
    );
  }

  /** Takes keys away; without any, all. */
  async clear(path: string, keys: readonly PolicyKey[] = []): Promise<void> {
    const { inode } = await this.#stat(path);
    await this.#session.execute(
      { kind: "clearPathPolicy", inode, keys },
      `Cannot clear the policy of "${path}"`,
    );
  }

  /** All paths that have a policy of their own, in the order of their inodes, page by page. */
  async *all(): AsyncGenerator<SetPolicy> {
    let after: InodeId | undefined;
    for (;;) {
      const request = { after, limit: pageLimit };
      const page = await this.#masters.call(masterApi.policies, request, this.#options);
      for (const each of page.policies) {
        yield each;
        after = each.inode;
      }
      if (!page.more || page.policies.length === 0) return;
    }
  }

  /** How far the clock that times to live go by has moved from the cluster's own, and whether it is trusted. */
  async clock(): Promise<TtlClock> {
    return await this.#masters.call(masterApi.ttlClock, {}, this.#options);
  }

  /** Takes the present time as the right one: what is over by it is deleted. */
  async acceptClock(): Promise<void> {
    const command = { kind: "setTtlClock", accept: true } as const;
    await this.#session.execute(command, "Cannot accept the clock");
  }

  get #options(): { deadlineMs: number; idempotent: boolean } {
    return { deadlineMs: this.#deadlineMs, idempotent: true };
  }
}
