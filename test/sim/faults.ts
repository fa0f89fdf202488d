/**
 * How hostile the world of one seed is. Each seed draws which kinds of faults it has at all, and how many of each: worlds
 * with one kind of trouble find other bugs than those with everything at once (swarm testing, Groce et al. 2012).
 */
import type { Random } from "../../src/lib/clock.ts";

/** What is done to the cluster from time to time. */
export const harms = [
  "kill",
  "powerLoss",
  "powerLossOfAll",
  "partition",
  "partialPartition",
  "oneWay",
  "clog",
  "pause",
  "clockJump",
  "slowDisk",
  "stalledDisk",
  "fullDisk",
  "ioError",
  "bitFlip",
  "misdirectedWrite",
  "transfer",
  "falseEnd",
  "addMember",
  "removeMember",
  "replaceMember",
] as const;
export type Harm = (typeof harms)[number];

/** Harms that find most where there are many of their kind. */
const families: readonly (readonly Harm[])[] = [
  ["addMember", "removeMember", "replaceMember", "kill"],
  ["partition", "partialPartition", "oneWay", "clog"],
  ["bitFlip", "misdirectedWrite", "powerLoss", "replaceMember"],
  ["pause", "clockJump", "slowDisk", "stalledDisk"],
];

export interface Faults {
  /** Percent of messages. */
  lossPercent: number;
  duplicatePercent: number;
  /** Messages of one link may overtake each other. */
  reorders: boolean;
  /** Longest delay of most messages, and of one in fifty. */
  delayMs: number;
  longDelayMs: number;
  syncMs: number;
  /** One sync in so many takes fifty times as long; during one in so many the node loses power. */
  stallOneIn: number;
  crashInSyncOneIn: number;
  /** Longest time between two uses of the cluster: with less use, as many steps see more faults. */
  useEveryMs: number;
  /** Range of the speed of the nodes' clocks, in percent: no two run alike. */
  clockPercent: readonly [from: number, to: number];
  /** Mean time between two harms. */
  harmEveryMs: number;
  harms: readonly Harm[];
  /** Bytes of a journal's segment: short ones are rolled and removed often. */
  segmentBytes: number;
  retainedEntries: number;
  /** One chunk of a snapshot in so many ends its transfer, or is not what was sent. */
  breakOneIn: number;
  damageOneIn: number;
  /** Messages go through their encoded form. */
  encodes: boolean;
  /** Percent of the other nodes that are told of the end of a process. */
  toldOfEndPercent: number;
}

export function drawFaults(random: Random): Faults {
  const oneIn = (count: number) => random.below(count) === 0;
  // Of each kind that there is, some seeds have a lot: a kind may be drawn more than once.
  const drawn = harms.filter(() => random.below(5) < 2);
  if (oneIn(4) && drawn.length > 0) {
    const often = drawn[random.below(drawn.length)]!;
    drawn.push(often, often, often);
  }
  return {
    lossPercent: oneIn(3) ? 0 : random.below(oneIn(3) ? 40 : 10),
    duplicatePercent: oneIn(2) ? 0 : random.below(20),
    reorders: !oneIn(3),
    delayMs: 1 + random.below(oneIn(3) ? 60 : 10),
    longDelayMs: 1 + random.below(500),
    syncMs: 1 + random.below(oneIn(4) ? 60 : 8),
    stallOneIn: oneIn(2) ? 200 : 8 + random.below(40),
    crashInSyncOneIn: oneIn(2) ? Number.POSITIVE_INFINITY : 20 + random.below(100),
    useEveryMs: 10 + random.below(oneIn(2) ? 30 : 300),
    clockPercent: oneIn(2) ? [95, 106] : [50, 201],
    harmEveryMs: 100 + random.below(oneIn(2) ? 400 : 1500),
    harms: drawn,
    segmentBytes: oneIn(4) ? 65_536 : 4096 + 512 * random.below(24),
    retainedEntries: 1 + random.below(oneIn(2) ? 10 : 150),
    breakOneIn: Number.POSITIVE_INFINITY,
    damageOneIn: Number.POSITIVE_INFINITY,
    encodes: oneIn(3),
    toldOfEndPercent: oneIn(2) ? 0 : random.below(101),
  };
}

/** The same world with a lot of harms of one kind. */
export function emphasized(faults: Faults, random: Random): Faults {
  const family = families[random.below(families.length)]!;
  return {
    ...faults,
    harms: [...faults.harms, ...family, ...family],
    harmEveryMs: 60 + random.below(200),
  };
}

/** What may happen to snapshots that travel in chunks. */
export function drawSnapshotFaults(random: Random): Pick<Faults, "breakOneIn" | "damageOneIn"> {
  const draw = () => (random.below(2) === 0 ? Number.POSITIVE_INFINITY : 2 + random.below(12));
  return { breakOneIn: draw(), damageOneIn: draw() };
}

/** A world in which nothing goes wrong any more. */
export function calm(faults: Faults): Faults {
  return {
    ...faults,
    lossPercent: 0,
    duplicatePercent: 0,
    delayMs: 2,
    longDelayMs: 2,
    syncMs: 2,
    stallOneIn: Number.POSITIVE_INFINITY,
    crashInSyncOneIn: Number.POSITIVE_INFINITY,
    breakOneIn: Number.POSITIVE_INFINITY,
    damageOneIn: Number.POSITIVE_INFINITY,
    useEveryMs: 40,
    harms: [],
  };
}
