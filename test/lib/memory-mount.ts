/** A process that mounts a file system in its heap at argv[2], for tests that kill it. Prints READY. */
import { loadConfig } from "../../src/lib/config.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { startFuse } from "../../src/fuse/server.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";

try {
  const config = loadConfig({ flags: { "fuse.mountPoint": process.argv[2] } });
  const mount = await startFuse(config, new MemoryFileSystem(), silentLogger);
  process.on("SIGTERM", () => {
    void mount.stop().then(() => process.exit(0));
  });
  process.stdout.write("READY {}\n");
  setInterval(() => undefined, 1000);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
