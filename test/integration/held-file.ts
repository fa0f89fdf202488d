/**
 * A client in a process of its own that holds a file: `held-file.ts CONFIG PATH TEXT` writes TEXT without publishing it and
 * says READY; at SIGUSR2 it publishes, twice, and prints what came of it.
 */
import { readFileSync } from "node:fs";
import { WeirClient } from "../../src/client/client.ts";
import { loadConfig } from "../../src/lib/config.ts";
import { toWeirError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";

const [path, file, text] = process.argv.slice(2);
const config = loadConfig({ file: { path: path!, text: readFileSync(path!, "utf8") } });
const client = await WeirClient.connect({ config, logger: silentLogger, name: "holder" });
const handle = await client.open(file!, "r+");
await handle.write(0, Buffer.from(text!));

async function publish(): Promise<string> {
  try {
    await handle.flush();
    return "published";
  } catch (thrown) {
    return toWeirError(thrown, "Cannot publish").code;
  }
}

process.on("SIGUSR2", () => {
  void (async () => {
    const ends = [await publish(), await publish()];
    process.stdout.write(`ENDED ${JSON.stringify(ends)}\n`);
    process.exit(0);
  })();
});
process.stdout.write("READY {}\n");
