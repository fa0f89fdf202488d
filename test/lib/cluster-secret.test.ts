import assert from "node:assert/strict";
import { chmod, writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import { join } from "node:path";
import { readClusterSecret } from "../../src/lib/cluster-secret.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { writeSecret } from "./secrets.ts";
import { withTempDir } from "./temp-dir.ts";

describe("The secret of a cluster", () => {
  const refused = (path: string, why: RegExp) =>
    assert.throws(
      () => readClusterSecret(path),
      (thrown) => {
        assert(hasCode(thrown, "ConfigInvalid"), String(thrown));
        assert.match(thrown.message, why);
        return true;
      },
    );

  it("is the text of its file, and shows nothing of itself", () =>
    withTempDir(async (directory) => {
      const path = join(directory, "secret");
      const text = await writeSecret(path);
      const secret = readClusterSecret(path);
      assert.equal(secret.export().toString(), text);
      assert(!inspect(secret).includes(text));
      assert(!JSON.stringify({ secret }).includes(text));
    }));

  it("is refused with the cure when others may read it, when it is short, long or missing", () =>
    withTempDir(async (directory) => {
      const path = join(directory, "secret");
      refused(path, /ENOENT/);
      await writeSecret(path);
      for (const mode of [0o640, 0o604, 0o620]) {
        await chmod(path, mode);
        refused(path, /its mode is 06\d\d, wanted 0600.*Cure: chmod 600/);
      }
      await chmod(path, 0o600);
      await writeFile(path, ` ${"x".repeat(31)}\n\n`);
      refused(path, /has 31 bytes of text, wanted 32 to 4096/);
      await writeFile(path, "x".repeat(4097));
      refused(path, /has 4097 bytes of text/);
    }));
});
