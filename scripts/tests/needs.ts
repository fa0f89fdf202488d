/**
 * What some tests need of the machine, as tags in the titles of their suites: `[needs: fuse]`. A need that is not met
 * fails the run, with its cure, unless it is switched off by name.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";

export const needs = ["root", "fuse", "s3", "netns"] as const;
export type Need = (typeof needs)[number];

export interface UnmetNeed {
  readonly need: Need;
  readonly problem: string;
  readonly cure: string;
}

/**
 * The needs that `WEIR_TEST_WITHOUT` names, comma-separated.
 * @throws Error naming a word that is no need
 */
export function switchedOff(variable: string | undefined): Need[] {
  const words = (variable ?? "")
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
  return words.map((word) => {
    const need = needs.find((each) => each === word);
    if (need === undefined) {
      throw new Error(
        `Cannot leave out "${word}" (WEIR_TEST_WITHOUT): wanted some of ${needs.join(", ")}`,
      );
    }
    return need;
  });
}

/** The needs that the titles in these test files name. */
export function needsOf(files: readonly string[]): Need[] {
  const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
  return needs.filter((need) => text.includes(`[needs: ${need}]`));
}

/** A pattern for mocha's --grep that matches the tests with one of these needs. */
export function patternOf(some: readonly Need[]): string {
  return `\\[needs: (${some.join("|")})\\]`;
}

/** Those of `some` that this machine does not meet. */
export function probeNeeds(some: readonly Need[]): UnmetNeed[] {
  return some.flatMap((need) => {
    const unmet = probes[need]();
    return unmet === undefined ? [] : [{ need, ...unmet }];
  });
}

const probes: Record<Need, () => Omit<UnmetNeed, "need"> | undefined> = {
  root: () =>
    process.getuid?.() === 0
      ? undefined
      : { problem: "the run is not root's", cure: "sudo npm test" },
  fuse: () => {
    if (!existsSync("/dev/fuse")) {
      return {
        problem: "/dev/fuse is missing",
        cure: "sudo modprobe fuse (in a container: --device /dev/fuse --cap-add SYS_ADMIN)",
      };
    }
    try {
      accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
    } catch {
      return {
        problem: "/dev/fuse may not be opened by this user",
        cure: `sudo chmod 666 /dev/fuse (for good: echo 'KERNEL=="fuse", MODE="0666"' | sudo tee /etc/udev/rules.d/99-fuse.rules)`,
      };
    }
    return hasProgram("fusermount")
      ? undefined
      : { problem: "fusermount is missing", cure: "sudo apt-get install fuse3" };
  },
  s3: () => {
    const missing = ["radosgw", "ceph-mon", "ceph-osd"].filter((program) => !hasProgram(program));
    return missing.length === 0
      ? undefined
      : {
          problem: `${missing.join(", ")} missing`,
          cure: `sudo apt-get install --no-install-recommends ${missing.join(" ")}`,
        };
  },
  netns: () =>
    spawnSync("unshare", ["--net", "true"], { stdio: "ignore" }).status === 0
      ? undefined
      : { problem: "network namespaces may not be made", cure: "sudo npm test" },
};

function hasProgram(program: string): boolean {
  const directories = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`.split(":");
  return directories.some((directory) => existsSync(`${directory}/${program}`));
}
