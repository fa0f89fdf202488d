import assert from "node:assert/strict";
import { loadConfig } from "../../src/lib/config.ts";

const load = (text: string) => loadConfig({ file: { path: "weir.yaml", text } });

describe("config", () => {
  it("has a default for every key", () => {
    assert.equal(loadConfig({}).masters[0]!.rpcPort, 19998);
  });

  it("lets variables override the file and flags override variables", () => {
    const file = { path: "weir.yaml", text: "worker: { heartbeatMs: 100, blockLeaseMs: 100 }" };
    const environment = { WEIR_WORKER_HEARTBEAT_MS: "200", WEIR_WORKER_BLOCK_LEASE_MS: "200" };
    const { worker } = loadConfig({ file, environment, flags: { "worker.heartbeatMs": 300 } });
    assert.equal(worker.heartbeatMs, 300);
    assert.equal(worker.blockLeaseMs, 200);
  });

  it("names an unknown key", () => {
    assert.throws(() => load("masterz: []"), /"masterz" is no key of the configuration/);
    assert.throws(() => load("master: { tikMs: 1 }"), /"master.tikMs" is no key/);
  });

  it("names the key, the value and what would be right", () => {
    assert.throws(() => load("master: { tickMs: 0 }"), /"master.tickMs" is 0: .*>=1/);
    assert.throws(() => load("master: { electionTicks: 4 }"), /wanted at least 3 × master.heart/);
  });

  it("wants a superuser where uid 0 is none", () => {
    assert.throws(() => load("security: { squash: root }"), /wanted another superuser/);
    assert.equal(load("security: { squash: root, supergroup: 4 }").security.supergroup, 4);
    assert.equal(load("security: { squash: root, superusers: [0, 7] }").security.squash, "root");
    const environment = { WEIR_SECURITY_SUPERGROUP: "27", WEIR_SECURITY_SQUASH: "all" };
    assert.equal(loadConfig({ environment }).security.supergroup, 27);
    assert.throws(() => load("security: { staticGroups: { ann: [1] } }"), /staticGroups/);
    assert.throws(() => load("security: { superusers: [4294967295] }"), /superusers/);
  });

  it("says where YAML is broken", () => {
    assert.throws(() => load("master: ["), /Cannot read "weir.yaml" as YAML/);
    assert.throws(() => load("- a\n- b"), /wanted keys and values at the top level/);
  });
});
