/**
 * Ends what its time to live is over for: cached copies of persisted files go (`free`), or files and directories that have
 * become empty go, in their store too (`delete`). Lives as long as one reign, and keeps nothing that the next one would
 * need: it walks again and again what lies below each time to live, a bounded number of names at a time.
 *
 * So nothing is stored for a file that inherits its time to live, and neither setting one above a million files nor moving
 * a tree in or out costs more than one row. The price is a walk, of about 3 µs for a name, every eighth of the time to
 * live, from a second up to ten minutes.
 *
 * Invariants
 * 1. What is deleted, apply decides: it looks at the time to live, the times and the clock again (`expire`).
 * 2. Only names that are loaded are looked at. What a store has beyond that was not touched by anybody here.
 * 3. Pinned files are not freed.
 */
import type { Clock } from "../../lib/clock.ts";
import { hasCode, toWeirError } from "../../lib/errors.ts";
import type { InodeId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Command, type CommandResult, maxExpired } from "../../rpc/commands.ts";
import type { PathPolicy } from "../../rpc/path-policy.ts";
import { ttlClockKey } from "../state/keys.ts";
import { type Inode, stateClock, type StateClock } from "../state/model.ts";
import { bitOf, nearestValue } from "../state/path-policies.ts";
import { firstLinkOf, inodeOf, isReachable, treeOf } from "../state/queries.ts";
import { clockToleranceMs, isClockTrusted, isOver } from "../state/time-to-live.ts";
import type { StateReader } from "../store/types.ts";
import { type Copy, copiesToFree } from "./cached-copies.ts";
import type { Reign } from "./leadership.ts";
import { namesBelow, policiesPage } from "./listings.ts";
import type { Locations } from "./locations.ts";

const everyMs = 1000;
/** Most names that are looked at in one step. */
const namesPerStep = 500;
const policiesPerPage = 500;
/** From one walk below a time to live to the next, as a part of it. */
const walksPerTtl = 8;
const mostOftenMs = 1000;
const leastOftenMs = 600_000;
/** How often the clock is looked at, and it is said that it is not trusted. */
const clockEveryMs = 600_000;

type Ttl = NonNullable<PathPolicy["ttl"]>;

/** A walk below one time to live, depth first: the directories that are open, the last one first. */
interface Walk {
  readonly ttl: Ttl;
  readonly open: { readonly directory: InodeId; after: string | undefined }[];
}

export interface TimeToLiveOptions {
  readonly reader: StateReader;
  readonly locations: Locations;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  /** Has workers drop copies. */
  readonly drop: (copies: readonly Copy[], signal: AbortSignal) => Promise<number>;
  /** As an entry that is proposed now would have them. */
  readonly now: () => StateClock;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class TimeToLive {
  readonly #options: TimeToLiveOptions;
  #cancel: () => void = () => undefined;
  #walk: Walk | undefined;
  /** Times to live of the page of policies that is being worked on. */
  readonly #found: { readonly inode: InodeId; readonly ttl: Ttl }[] = [];
  /** The last policy that was read in this round. */
  #after: InodeId | undefined;
  #isRoundRead = false;
  /** When each is walked again, as of this round and the one before. */
  #due = new Map<InodeId, number>();
  #nextDue = new Map<InodeId, number>();
  #clockLookMs = 0;
  #isTrusted = false;

  constructor(options: TimeToLiveOptions) {
    this.#options = options;
    options.reign.signal.addEventListener("abort", () => this.#cancel());
    this.#plan();
  }

  #plan(): void {
    const { reign, clock, logger } = this.#options;
    if (reign.signal.aborted) return;
    this.#cancel = clock.after(everyMs, () => {
      void this.#step()
        .catch((thrown: unknown) => {
          if (reign.signal.aborted || hasCode(thrown, "Busy", "NotLeader", "DiskFull")) return;
          const { message } = toWeirError(thrown, "Cannot end what is over");
          logger.warn({ error: message }, "times to live wait");
        })
        .finally(() => this.#plan());
    });
  }

  async #step(): Promise<void> {
    const { reader } = this.#options;
    if ((treeOf(reader)?.ttls ?? 0) === 0) {
      this.#walk = undefined;
      return;
    }
    await this.#lookAtClock();
    let left = namesPerStep;
    while (left > 0) {
      this.#walk ??= await this.#nextWalk();
      if (this.#walk === undefined) return;
      left -= await this.#advance(this.#walk, left);
    }
  }

  /** Keeps the two times together that the state remembers, as long as they have moved alike. */
  async #lookAtClock(): Promise<void> {
    const { reader, propose, now, reign, clock, logger } = this.#options;
    const before = reader.read(stateClock, ttlClockKey);
    this.#isTrusted = isClockTrusted(before, now());
    const isDue = before === undefined || clock.monotonicMs() >= this.#clockLookMs;
    if (!isDue) return;
    this.#clockLookMs = clock.monotonicMs() + clockEveryMs;
    if (before !== undefined && !this.#isTrusted) {
      logger.warn(
        { toleranceHours: clockToleranceMs / 3_600_000 },
        "the clock moved further than time did: nothing is deleted by its time to live until it is accepted (weir path clock --accept)",
      );
      return;
    }
    await propose([{ kind: "setTtlClock", accept: false }], reign.signal);
    this.#isTrusted = true;
  }

  /** The next time to live below which it is time to look; undefined: none for now. */
  async #nextWalk(): Promise<Walk | undefined> {
    const { reader, clock } = this.#options;
    for (;;) {
      const next = this.#found.shift();
      if (next === undefined) {
        if (await this.#readPolicies()) continue;
        return undefined;
      }
      const { inode, ttl } = next;
      const now = clock.monotonicMs();
      const pauseMs = Math.max((ttl.seconds * 1000) / walksPerTtl, mostOftenMs);
      const again = now + Math.min(pauseMs, leastOftenMs);
      const due = this.#due.get(inode) ?? 0;
      this.#nextDue.set(inode, due <= now ? again : Math.min(due, again));
      if (due > now) continue;
      const of = inodeOf(reader, inode);
      if (of === undefined || of.nlink === 0) continue;
      if (of.kind !== "directory") await this.#endFile(of, ttl);
      else if (isReachable(reader, inode)) {
        return { ttl, open: [{ directory: inode, after: undefined }] };
      }
    }
  }

  /** Takes the next page of policies; false at the end of a round, which the next call begins anew. */
  async #readPolicies(): Promise<boolean> {
    if (this.#isRoundRead) {
      // What has no time to live any more is forgotten with the round.
      this.#due = this.#nextDue;
      this.#nextDue = new Map();
      this.#after = undefined;
      this.#isRoundRead = false;
      return false;
    }
    const page = { after: this.#after, limit: policiesPerPage };
    const { policies, more } = await policiesPage(this.#options.reader, page);
    for (const { inode, policy } of policies) {
      if (policy.ttl !== undefined) this.#found.push({ inode, ttl: policy.ttl });
    }
    this.#after = policies[policies.length - 1]?.inode;
    this.#isRoundRead = !more;
    return true;
  }

  /** Looks at up to `limit` names; returns at how many. */
  async #advance(walk: Walk, limit: number): Promise<number> {
    const { reader } = this.#options;
    const at = walk.open[walk.open.length - 1];
    if (at === undefined) {
      this.#walk = undefined;
      return 0;
    }
    const page = await namesBelow(reader, at.directory, limit, at.after);
    if (page.length < limit) walk.open.pop();
    else at.after = page[page.length - 1]!.name;
    const over: string[] = [];
    const copies: Copy[] = [];
    const ttlBit = bitOf("ttl");
    for (const { name, child } of page) {
      const of = inodeOf(reader, child);
      // One that has a time to live of its own is walked for that.
      if (of === undefined || ((of.policies ?? 0) & ttlBit) !== 0) continue;
      if (of.kind === "directory") walk.open.push({ directory: child, after: undefined });
      if (!isOver(of.mtime, walk.ttl.seconds, this.#wallTime)) continue;
      if (walk.ttl.action === "delete") {
        if (of.kind !== "directory" || isEmpty(of)) over.push(name);
      } else copies.push(...this.#copiesOf(of));
    }
    await this.#end(at.directory, over, copies);
    return page.length + 1;
  }

  get #wallTime(): StateClock["wallTime"] {
    return this.#options.now().wallTime;
  }

  /** A file that has a time to live of its own. */
  async #endFile(of: Inode, ttl: Ttl): Promise<void> {
    const { reader } = this.#options;
    if (!isOver(of.mtime, ttl.seconds, this.#wallTime)) return;
    const link = firstLinkOf(reader, of.id);
    if (link === undefined) return;
    if (ttl.action === "delete") await this.#end(link.parent, [link.name], []);
    else await this.#end(link.parent, [], this.#copiesOf(of));
  }

  #copiesOf(of: Inode): readonly Copy[] {
    const { reader, locations } = this.#options;
    const copies = copiesToFree(reader, locations, of);
    if (copies.length === 0 || (treeOf(reader)?.pins ?? 0) === 0) return copies;
    const isPinned = nearestValue(reader, of.id, "pin") !== undefined;
    return isPinned ? [] : copies;
  }

  async #end(directory: InodeId, names: readonly string[], copies: readonly Copy[]): Promise<void> {
    const { propose, drop, reign } = this.#options;
    if (copies.length > 0) await drop(copies, reign.signal);
    if (names.length === 0 || !this.#isTrusted) return;
    const commands: Command[] = [];
    for (let from = 0; from < names.length; from += maxExpired) {
      commands.push({ kind: "expire", directory, names: names.slice(from, from + maxExpired) });
    }
    await propose(commands, reign.signal);
  }
}

function isEmpty(of: Inode): boolean {
  return of.childCount === 0 && of.loaded && !of.mountPoint;
}
