/** Masters and workers whose log goes nowhere: a full disk, a pipe whose reader is gone. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { WeirClient } from "../../src/client/client.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { type ControlledProcess, LocalCluster } from "../lib/local-cluster.ts";
import { withTempDir } from "../lib/temp-dir.ts";

/** Starts a process, which does not run, with an output at the place of its log that takes nothing. */
type Start = (each: ControlledProcess, logPath: string) => Promise<void>;

const starts: Readonly<Record<string, Start>> = {
  "on a full disk": async (each, logPath) => {
    await symlink("/dev/full", logPath);
    each.start();
  },
  "a pipe without a reader": async (each, logPath) => {
    await promisify(execFile)("mkfifo", [logPath]);
    // Without a reader it could not be opened.
    const reader = openSync(logPath, constants.O_RDONLY | constants.O_NONBLOCK);
    each.start();
    closeSync(reader);
  },
};

describe("A cluster whose logs are lost", function () {
  this.timeout(90_000);

  for (const [name, start] of Object.entries(starts)) {
    it(`works with its logs ${name}, and stops with status 0`, () =>
      withTempDir(async (directory) => {
        const cluster = await LocalCluster.start({ directory, masters: 1, workers: 1 });
        const processes = [...cluster.masters, ...cluster.workers];
        try {
          for (const each of processes) {
            assert.equal(await each.stop(), 0);
            const logPath = join(directory, `${each.name}.log`);
            await rm(logPath);
            await start(each, logPath);
          }
          const { config } = cluster;
          const client = await eventually("the cluster to answer", () =>
            WeirClient.connect({ config, logger: silentLogger, name: "test" }),
          );
          try {
            const bytes = Buffer.alloc(100_000, "some data ");
            await eventually("a file to be written", async () => {
              await client.writeFile("/file", bytes);
              return true;
            });
            const read: Uint8Array[] = [];
            for await (const chunk of client.readFile("/file")) read.push(chunk);
            assert.deepEqual(Buffer.concat(read), bytes);
          } finally {
            await client.close();
          }
          for (const each of processes) assert.equal(await each.stop(), 0, each.name);
        } finally {
          await cluster.close();
        }
      }));
  }
});
