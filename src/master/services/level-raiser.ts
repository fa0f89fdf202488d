/**
 * Raises the level of the state to what this release knows, as soon as every member is known to speak the version of the
 * protocol that came with it. Lives as long as one reign.
 */
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Command, type CommandResult, newestLevel, sinceVersion } from "../../rpc/commands.ts";
import { levelOfState } from "../state/queries.ts";
import type { PointReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";

/** How often members are looked at again while one of them is of an earlier release, or away. */
const everyMs = 250;

export interface LevelRaiserOptions {
  readonly reader: PointReader;
  /** A version of the protocol that every member speaks. */
  readonly oldestVersion: () => number;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class LevelRaiser {
  readonly #options: LevelRaiserOptions;

  constructor(options: LevelRaiserOptions) {
    this.#options = options;
    void this.#look();
  }

  async #look(): Promise<void> {
    const { reader, oldestVersion, propose, reign, clock, logger } = this.#options;
    if (reign.signal.aborted || levelOfState(reader) >= newestLevel) return;
    if (oldestVersion() >= sinceVersion.raiseLevel) {
      try {
        await propose([{ kind: "raiseLevel", level: newestLevel }], reign.signal);
        logger.info({ level: newestLevel }, "all masters are of this release");
        return;
      } catch (thrown) {
        if (reign.signal.aborted) return;
        logger.debug({ error: String(thrown) }, "the level was not raised; it is tried again");
      }
    }
    const cancel = clock.after(everyMs, () => void this.#look());
    reign.signal.addEventListener("abort", cancel, { once: true });
  }
}
