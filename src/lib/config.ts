/**
 * The one configuration: `weir.yaml`, overridden by `WEIR_*` variables, overridden by flags. One schema names every
 * default, its unit and the relations between values; a wrong key or value is refused with the key, the value and what
 * would be right.
 *
 * A variable is the path of a key in capitals with underscores between its parts: `WEIR_WORKER_BLOCK_SIZE_BYTES=1048576`
 * sets `worker.blockSizeBytes`. Lists and objects are given as JSON.
 */
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { WeirError } from "./errors.ts";

const port = z.number().int().min(0).max(65535);
const milliseconds = z.number().int().min(1).max(86_400_000);
const bytes = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const host = z.string().min(1);
/** A uid or gid; the largest 32-bit number means nobody to the kernel. */
const userId = z.number().int().min(0).max(0xffff_fffe);

const masterAddress = z.strictObject({
  /** Name of the master in this file; its identity is the random id in its journal. */
  name: z.string().regex(/^[a-z0-9-]{1,32}$/),
  host: host.default("127.0.0.1"),
  rpcPort: port.default(19998),
  raftPort: port.default(19200),
});
export type MasterAddress = z.infer<typeof masterAddress>;

const tier = z.strictObject({
  medium: z.enum(["MEM", "SSD", "HDD"]),
  directories: z.array(z.string().startsWith("/")).min(1),
  quotaBytes: bytes.default(1024 ** 3),
});
export type TierConfig = z.infer<typeof tier>;

const schema = z
  .strictObject({
    clusterName: z
      .string()
      .regex(/^[a-z0-9-]{1,32}$/)
      .default("weir"),
    logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
    /** An odd number begins a cluster; while members come and go it may be an even one. */
    masters: z
      .array(masterAddress)
      .min(1)
      .max(8)
      .default([masterAddress.parse({ name: "master-1" })]),
    nats: z
      .strictObject({
        urls: z
          .array(z.string().regex(/^(nats|tls):\/\//))
          .min(1)
          .default(["nats://127.0.0.1:4222"]),
        user: z.string().optional(),
        password: z.string().optional(),
      })
      .prefault({}),
    master: z
      .strictObject({
        /** Directory of the journal and the metadata store of one master. */
        dataDir: z.string().startsWith("/").default("/var/lib/weir/master"),
        /** Step of the consensus clock. */
        tickMs: milliseconds.default(20),
        heartbeatTicks: z.number().int().min(1).default(3),
        /** Shortest silence before a pre-vote; the real one is drawn from [1, 2) times this. Twice it is below a second. */
        electionTicks: z.number().int().min(2).default(16),
        /** Kept behind the flushed index for slow followers, whichever is less; in the heap as well as on disk. */
        retainedEntries: z.number().int().min(1).default(50_000),
        retainedBytes: bytes.default(128 * 1024 ** 2),
        segmentBytes: bytes.default(64 * 1024 ** 2),
        /** Proposals are refused with DiskFull below this much free space. */
        reservedDiskBytes: bytes.default(64 * 1024 ** 2),
        sessionTimeoutMs: milliseconds.default(30_000),
        /** Silence after which a worker's copies count no more. */
        workerTimeoutMs: milliseconds.default(10_000),
        /** Grace before unlinked and replaced content is reclaimed. */
        retiredGraceMs: milliseconds.default(600_000),
        /** Longest wait of a reader for the recovery of a lost file. */
        recoveryWaitMs: milliseconds.default(120_000),
        /**
         * How old what is known of a store may get before it is asked again, where neither a path nor a mount says
         * otherwise. -1: as old as it likes; 0: every time.
         */
        syncIntervalMs: z.number().int().min(-1).max(3_155_760_000_000).default(-1),
        /** Longest wait of a reader for that; then it gets what was known. */
        syncWaitMs: z.number().int().min(0).max(3_600_000).default(5000),
        /** Under storage of "/". Required where masters start an empty cluster. */
        rootUri: z
          .string()
          .regex(/^(file|s3):\/\//)
          .default("file:///var/lib/weir/root"),
        rootOptions: z.record(z.string(), z.string()).default({}),
        /** Attempts of a job since its last success before its lineage is failed. */
        jobAttempts: z.number().int().min(1).max(100).default(3),
      })
      .prefault({}),
    worker: z
      .strictObject({
        host: host.default("127.0.0.1"),
        /** Control port; 0 lets the system choose. */
        port: port.default(0),
        tiers: z
          .array(tier)
          .min(1)
          .default([
            { medium: "MEM", directories: ["/dev/shm/weir"], quotaBytes: 1024 ** 3 },
            { medium: "SSD", directories: ["/var/lib/weir/blocks"], quotaBytes: 10 * 1024 ** 3 },
          ]),
        blockSizeBytes: bytes.default(64 * 1024 ** 2),
        heartbeatMs: milliseconds.default(1000),
        blockLeaseMs: milliseconds.default(30_000),
        /** Whether lineage jobs may run here, how many at once, and where. */
        jobs: z.boolean().default(true),
        jobSlots: z.number().int().min(1).max(1024).default(2),
        scratchDir: z.string().startsWith("/").default("/var/tmp/weir"),
      })
      .prefault({}),
    client: z
      .strictObject({
        /** Deadline of one operation, retries included. */
        operationTimeoutMs: milliseconds.default(30_000),
        writeType: z
          .enum(["MUST_CACHE", "ASYNC_THROUGH", "CACHE_THROUGH", "THROUGH"])
          .default("ASYNC_THROUGH"),
        /** Copies of data that is not persisted, where there are as many workers. */
        keepers: z.number().int().min(1).max(8).default(2),
        /** Read the tier's files directly where the storage is proved to be shared. */
        shortCircuit: z.boolean().default(true),
        /** Whom to ask for names and attributes: the leading master, or any, each client its own; equally consistent. */
        reads: z.enum(["leader", "any"]).default("leader"),
        /** Whether what this client reads moves access times: when they lag behind, as with `-o relatime`, or never. */
        atime: z.enum(["relatime", "noatime"]).default("relatime"),
      })
      .prefault({}),
    /** Who may do what. Masters and clients are to have the same here. */
    security: z
      .strictObject({
        /**
         * Of masters and workers alone: a file with a text that they share, by which workers are told from others. Without it
         * whoever reaches the masters may call itself a worker, and is told the credentials of the stores.
         */
        secretFile: z.string().startsWith("/").optional(),
        /** Off: whoever reaches the masters may do everything, as the superuser. */
        permissionChecks: z.boolean().default(true),
        /** The superuser, by any of these uids, and by the one that a master runs as. */
        superusers: z.array(userId).default([0]),
        /** The members of this group are the superuser too. */
        supergroup: userId.optional(),
        /** Whose word counts on the groups of a user: the client's, the master's /etc/group, or that of `staticGroups`. */
        groupMapping: z.enum(["client", "system", "static"]).default("client"),
        /** How long the master goes by what it has read of /etc/passwd and /etc/group. */
        groupCacheMs: milliseconds.default(60_000),
        /** uid → gids, the first of which is the user's own. */
        staticGroups: z.record(z.string().regex(/^\d{1,10}$/), z.array(userId).min(1)).default({}),
        /** Who counts as nobody: none, uid 0, or all but the superuser. */
        squash: z.enum(["none", "root", "all"]).default("none"),
        anonymousUid: userId.default(65_534),
        anonymousGid: userId.default(65_534),
      })
      .prefault({}),
    fuse: z
      .strictObject({
        mountPoint: z.string().startsWith("/").default("/mnt/weir"),
        allowOther: z.boolean().default(false),
        readOnly: z.boolean().default(false),
        /** Lifetime of attributes and names in the kernel's caches. */
        kernelCacheMs: z.number().int().min(0).max(3_600_000).default(1000),
      })
      .prefault({}),
  })
  .check((context) => {
    const { masters, master, worker, security } = context.value;
    const complain = (path: (string | number)[], input: unknown, message: string) => {
      context.issues.push({ code: "custom", path, input, message });
    };
    if (new Set(masters.map((each) => each.name)).size !== masters.length) {
      complain(
        ["masters"],
        masters.map((each) => each.name).join(", "),
        "wanted names that differ",
      );
    }
    if (master.electionTicks < 3 * master.heartbeatTicks) {
      complain(
        ["master", "electionTicks"],
        master.electionTicks,
        `wanted at least 3 × master.heartbeatTicks (${String(3 * master.heartbeatTicks)})`,
      );
    }
    if (master.workerTimeoutMs < 2 * worker.heartbeatMs) {
      complain(
        ["master", "workerTimeoutMs"],
        master.workerTimeoutMs,
        `wanted at least 2 × worker.heartbeatMs (${String(2 * worker.heartbeatMs)})`,
      );
    }
    const { squash, superusers, supergroup } = security;
    if (squash === "root" && superusers.every((uid) => uid === 0) && supergroup === undefined) {
      complain(
        ["security", "squash"],
        squash,
        "wanted another superuser in security.superusers, or a security.supergroup: uid 0 is none then",
      );
    }
  });

export type Config = z.infer<typeof schema>;
export type SecurityConfig = Config["security"];

/** Sources of a configuration; later ones override earlier ones. */
export interface ConfigSources {
  /** Text of weir.yaml and its path for messages. */
  readonly file?: { readonly path: string; readonly text: string } | undefined;
  /** The process environment. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Flags as `path.of.key` → value. */
  readonly flags?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * The validated configuration.
 * @throws WeirError `ConfigInvalid`: every wrong key with its value and what would be right, one line each
 */
export function loadConfig(sources: ConfigSources): Config {
  const raw = readFile(sources.file);
  for (const [variable, value] of Object.entries(sources.environment ?? {})) {
    if (!variable.startsWith("WEIR_") || value === undefined) continue;
    const path = keyOfVariable.get(variable);
    if (path !== undefined) setKey(raw, path, parseScalar(value));
  }
  for (const [path, value] of Object.entries(sources.flags ?? {})) {
    if (value !== undefined) setKey(raw, path.split("."), value);
  }
  const parsed = schema.safeParse(raw, { reportInput: true });
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const key = issue.path.join(".") || "(top level)";
    if (issue.code === "unrecognized_keys") {
      return `  "${[...issue.path, issue.keys[0]].join(".")}" is no key of the configuration`;
    }
    return `  "${key}" is ${JSON.stringify(issue.input)}: ${issue.message}`;
  });
  const source = sources.file === undefined ? "the configuration" : `"${sources.file.path}"`;
  throw new WeirError("ConfigInvalid", `Cannot use ${source}:\n${lines.join("\n")}`);
}

function readFile(file: ConfigSources["file"]): Record<string, unknown> {
  if (file === undefined) return {};
  try {
    const value: unknown = parseYaml(file.text);
    if (value === null || value === undefined) return {};
    if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new WeirError("ConfigInvalid", `Cannot read "${file.path}" as YAML: ${detail}`, {
      cause,
    });
  }
  throw new WeirError(
    "ConfigInvalid",
    `Cannot use "${file.path}": wanted keys and values at the top level`,
  );
}

function setKey(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let at = target;
  for (const part of path.slice(0, -1)) {
    const below = at[part];
    if (typeof below !== "object" || below === null) at[part] = {};
    at = at[part] as Record<string, unknown>;
  }
  at[path[path.length - 1]!] = value;
}

function parseScalar(value: string): unknown {
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

/** WEIR_WORKER_BLOCK_SIZE_BYTES → ["worker", "blockSizeBytes"], for every key of the schema. */
const keyOfVariable = variablesOf(schema.parse({}), []);

function variablesOf(value: object, path: readonly string[]): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  for (const [key, below] of Object.entries(value) as [string, unknown][]) {
    const here = [...path, key];
    found.set(
      `WEIR_${here.map((part) => part.replace(/[A-Z]/g, "_$&").toUpperCase()).join("_")}`,
      here,
    );
    if (typeof below === "object" && below !== null && !Array.isArray(below)) {
      for (const entry of variablesOf(below, here)) found.set(...entry);
    }
  }
  if (path.length === 0) {
    found.set("WEIR_NATS_USER", ["nats", "user"]);
    found.set("WEIR_NATS_PASSWORD", ["nats", "password"]);
    found.set("WEIR_SECURITY_SUPERGROUP", ["security", "supergroup"]);
    found.set("WEIR_SECURITY_SECRET_FILE", ["security", "secretFile"]);
  }
  return found;
}
