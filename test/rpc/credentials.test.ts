import assert from "node:assert/strict";
import { type MountId, rootInodeId, type SessionId } from "../../src/lib/ids.ts";
import { decode, encode } from "../../src/lib/schema.ts";
import { type Command, entryPayload } from "../../src/rpc/commands.ts";
import { payloadWithoutCredentials, withoutCredentials } from "../../src/rpc/credentials.ts";

const options = { endpoint: "http://x", accessKey: "hush-key", secretKey: "hush-secret" };
const shown = { endpoint: "http://x", accessKey: "hidden", secretKey: "hidden" };

function payloadOf(...commands: Command[]): Buffer {
  const request = { session: 1 as SessionId, sequence: 1, acknowledgedBelow: 0, atomic: false };
  const wallTime = { sec: 1, nsec: 0 };
  return encode(entryPayload, {
    ...{ clusterTimeMs: 5, wallTime },
    requests: [{ ...request, commands }],
  });
}

describe("credentials of stores", () => {
  it("are not among the options that may be shown, and what is unknown counts as one", () => {
    const more = { ...options, pathStyle: "true", sessionToken: "hush", futureKey: "hush" };
    assert.deepEqual(withoutCredentials(more), { endpoint: "http://x", pathStyle: "true" });
  });

  it("are hidden in every command that has any, of which all else stays", () => {
    const layer = { name: "hot", uri: "s3://b", readOnly: false };
    const mount = { kind: "mount" as const, parent: rootInodeId, name: "m", readOnly: false };
    const update = {
      ...{ kind: "updateMount" as const, mount: 2 as MountId, unset: ["secretKey"] },
      ...{ readOnly: undefined, shared: true, overlap: undefined },
    };
    const change = { name: "hot", uri: undefined, readOnly: undefined, unset: [] };
    const found = {
      ...{ kind: "bootstrap" as const, clusterId: "c", clusterName: "w", blockSizeBytes: 1 },
      ...{ rootUri: "s3://b", uid: 0, gid: 0 },
    };
    const payload = payloadOf(
      { ...mount, uri: "s3://b", options },
      { ...mount, uri: "", options: {}, layers: [{ ...layer, options }], writeLayer: "hot" },
      { ...update, set: options, layers: [{ ...change, set: options }] },
      { ...found, rootOptions: options },
    );
    const hidden = payloadWithoutCredentials(payload);
    assert(!Buffer.from(hidden).toString("latin1").includes("hush"));
    const wanted = payloadOf(
      { ...mount, uri: "s3://b", options: shown },
      { ...mount, uri: "", options: {}, layers: [{ ...layer, options: shown }], writeLayer: "hot" },
      { ...update, set: shown, layers: [{ ...change, set: shown }] },
      { ...found, rootOptions: shown },
    );
    assert.deepEqual(decode(entryPayload, hidden, "it"), decode(entryPayload, wanted, "it"));
  });

  it("leave an entry without any as it is, to the byte", () => {
    const payload = payloadOf({ kind: "touchSessions", sessions: [] });
    assert.equal(payloadWithoutCredentials(payload), payload);
  });
});
