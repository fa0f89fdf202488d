/** Real programs on a real mount. The file system is in the heap; test/integration runs them on a whole cluster. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { mountedAt, unmount } from "../../src/fuse/mount-point.ts";

const run = promisify(execFile);
const sh = (script: string, cwd: string) =>
  run("sh", ["-euc", script], { cwd, timeout: 60_000, maxBuffer: 1 << 26 });

/** A mount in a process of its own: this one may then touch it. */
async function startMount(directory: string): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    ["--import=tsx", join(import.meta.dirname, "../lib/memory-mount.ts"), directory],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [ready] = (await Promise.race([once(child.stdout, "data"), once(child, "exit")])) as [
    unknown,
  ];
  assert.match(String(ready), /^READY/, "the mount process came up");
  return child;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  child.kill(signal);
  const [code] = (await once(child, "exit")) as [number | null];
  return code;
}

describe("a native mount [needs: fuse]", function () {
  this.timeout(60_000);
  let scratch: string;
  let mnt: string;
  let server: ChildProcess;

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "weir-fuse-"));
    mnt = join(scratch, "mnt");
    server = await startMount(mnt);
    const tree = join(scratch, "tree");
    await mkdir(join(tree, "a/b"), { recursive: true });
    for (let i = 0; i < 50; i++) {
      await writeFile(join(tree, "a", `file-${String(i)}`), Buffer.alloc(i * 1000, i));
    }
    await writeFile(join(tree, "a/b/größe ✓"), "names beyond ASCII");
    await writeFile(join(tree, "large"), Buffer.alloc(3_000_001, "0123456789"));
    await symlink("a/file-7", join(tree, "link"));
    await symlink("nowhere/at all", join(tree, "dangling"));
    await sh(
      "ln a/file-3 hard; chmod 640 a/file-4; touch -a -d 2001-02-03T04:05:06Z a/file-5; touch -m -d 1999-12-31T23:59:59.250Z a/file-5",
      tree,
    );
  });

  after(async () => {
    await end(server, "SIGKILL");
    await unmount(mnt, { lazy: true }).catch(() => undefined);
    await rm(scratch, { recursive: true, force: true });
  });

  it("keeps a tree with links that cp -a brings, times, modes and hard links included", async () => {
    await sh("cp -a tree mnt/copy; diff -r --no-dereference tree mnt/copy", scratch);
    const shown = (directory: string) =>
      sh(
        "find . -not -type d -printf '%p %y %m %n %s %l %T@\\n' | sed -E 's/([.][0-9]{3})[0-9]*$/\\1/' | sort",
        directory,
      );
    assert.equal(
      (await shown(join(mnt, "copy"))).stdout,
      (await shown(join(scratch, "tree"))).stdout,
    );
    const { stdout } = await sh("stat -c '%X %.3Y' mnt/copy/a/file-5", scratch);
    assert.equal(stdout.trim(), "981173106 946684799.250");
  });

  it("unpacks what tar packed, and packs the same again", async () => {
    await sh(
      "tar -C tree -cf tree.tar . ; mkdir mnt/tar; tar -C mnt/tar -xf tree.tar; diff -r --no-dereference tree mnt/tar",
      scratch,
    );
    await sh(
      "tar -C mnt/tar -cf again.tar .; mkdir again; tar -C again -xf again.tar; diff -r --no-dereference tree again",
      scratch,
    );
  });

  it("appends, overwrites, truncates and renames as a local directory does", async () => {
    const script = `
      mkdir w; cd w
      echo one > f; echo two >> f; printf X | dd of=f bs=1 seek=1 conv=notrunc status=none
      cat f; truncate -s 3 f; cat f; echo; truncate -s 6 f; od -c f; : > f; wc -c < f
      echo left > a; echo right > b; mv a b; cat b; mkdir d; mv b d/c; cat d/c; ls -R
      ln -s d/c s; readlink s; rm s; rmdir d 2>&1 | sed 's/.*: //' ; rm -r d; ls
      mkfifo p; stat -c %F p; rm p; chmod 604 f; stat -c '%a %s' f; exec 3>open; rm open; echo kept >&3; ls`;
    await mkdir(join(scratch, "local"));
    const local = await sh(script, join(scratch, "local"));
    const mounted = await sh(script, mnt);
    assert.equal(mounted.stdout, local.stdout);
  });

  it("answers the errors that programs look for", async () => {
    const script = `
      mkdir e; cd e; mkdir dir; echo x > file
      for command in 'cat missing' 'mkdir dir' 'rmdir file' 'cat file/below' 'ln file file' 'rmdir .'; do
        LC_ALL=C $command 2>&1 | sed 's/.*: //' || true
      done`;
    await mkdir(join(scratch, "errors"));
    const { stdout } = await sh(script, mnt);
    assert.deepEqual(stdout.trim().split("\n"), [
      "No such file or directory",
      "File exists",
      "Not a directory",
      "Not a directory",
      "File exists",
      "Invalid argument",
    ]);
  });

  it("has fifos, sockets and devices", async () => {
    const script = `
      mkdir nodes; cd nodes; mkfifo p; mknod c c 240 70000; mknod b b 7 3; stat -c '%F %t %T' p c b
      perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "s", Listen => 1) or die'; stat -c %F s`;
    await mkdir(join(scratch, "nodes"));
    const local = await sh(script, join(scratch, "nodes"));
    const mounted = await sh(script, mnt);
    assert.equal(mounted.stdout, local.stdout);
  });

  it("has extended attributes, and tells how much room one needs", async () => {
    const script = String.raw`
      use strict; use Errno;
      my %call = $ENV{ARCH} eq "arm64" ? (set => 5, get => 8, list => 11, remove => 14)
                                       : (set => 188, get => 191, list => 194, remove => 197);
      sub outcome { my $done = shift; $done >= 0 ? $done : (grep { $!{$_} } qw(ENODATA EEXIST ERANGE ENOTSUP E2BIG))[0] // "$!" }
      sub call { my ($name, @of) = @_; outcome(syscall($call{$name}, @of)) }
      sub show { my ($name, $size, @of) = @_; my $room = "\0" x $size;
        my $length = outcome(syscall($call{$name}, @of, $room, $size));
        $length =~ /^\d+$/ && $size > 0 ? join(",", split /\0/, substr($room, 0, $length), -1) : $length }
      open(my $f, ">", "f"); close $f;
      my $long = join("", map chr, 1 .. 255) x 200;
      print "$_\n" for
        show("get", 100, "f", "user.a"), show("list", 100, "f"),
        call("set", "f", "user.a", "1", 1, 2), call("set", "f", "user.a", "1", 1, 1),
        call("set", "f", "user.a", "2", 1, 1), show("get", 100, "f", "user.a"),
        call("set", "f", "user.a", $long, length $long, 0),
        show("get", 0, "f", "user.a"), show("get", 100, "f", "user.a"),
        show("get", 65536, "f", "user.a") eq $long ? "same" : "other",
        call("set", "f", "user.gr\xc3\xb6\xc3\x9fe", "", 0, 0), show("list", 0, "f"),
        show("list", 5, "f"), show("list", 100, "f"),
        call("set", "f", "nowhere.a", "1", 1, 0), call("set", "f", "user.b", $long x 2, 65537, 0),
        call("remove", "f", "user.a"), call("remove", "f", "user.a"), show("list", 100, "f");
      open($f, ">", "f"); print $f "the kernel asked for security.capability\n"; close $f; print \`cat f\`;`;
    await mkdir(join(mnt, "xattr"));
    const { stdout } = await run("perl", ["-e", script.replaceAll("\\`", "`")], {
      cwd: join(mnt, "xattr"),
      env: { ...process.env, ARCH: process.arch },
    });
    assert.deepEqual(stdout.trim().split("\n"), [
      ...["ENODATA", "", "ENODATA", "0", "EEXIST", "1", "0"],
      ...["51000", "ERANGE", "same", "0", "20", "ERANGE", "user.a,user.größe,"],
      ...["ENOTSUP", "E2BIG", "0", "ENODATA", "user.größe,"],
      "the kernel asked for security.capability",
    ]);
  });

  it("A1: serves 64 readers at once, and answers others meanwhile", async () => {
    await sh("cp tree/large mnt/shared", scratch);
    const script =
      'for i in $(seq 64); do cmp ../tree/large shared & pids="$pids $!"; done; for p in $pids; do wait $p; done';
    const readers = sh(`pids=; ${script}`, mnt);
    await sh("ls -l >/dev/null; echo alive > other; cat other", mnt);
    await readers;
  });

  it("shows the space of the file system to df", async () => {
    const { stdout } = await sh("stat -f -c '%T %l' . ; df --output=pcent . | tail -1", mnt);
    assert.match(stdout, /255\n\s*2%/);
  });
});

describe("the life of a native mount [needs: fuse]", function () {
  this.timeout(60_000);
  let scratch: string;
  let mnt: string;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), "weir-fuse-"));
    mnt = join(scratch, "mnt");
  });

  afterEach(async () => {
    for (const child of children.splice(0)) await end(child, "SIGKILL");
    if ((await mountedAt(mnt)) !== undefined) await unmount(mnt, { lazy: true });
    await rm(scratch, { recursive: true, force: true });
  });

  const start = async () => {
    const child = await startMount(mnt);
    children.push(child);
    return child;
  };

  it("A2: mounts again where a process was killed and left `Transport endpoint is not connected`", async () => {
    const first = await start();
    await sh("echo x > mnt/file", scratch);
    await end(first, "SIGKILL");
    await assert.rejects(sh("LC_ALL=C ls mnt", scratch), /not connected/);
    await start();
    await sh("echo y > mnt/file; cat mnt/file", scratch);
  });

  it("goes away at SIGTERM and exits 0", async () => {
    const child = await start();
    await sh("echo x > mnt/file", scratch);
    assert.equal(await end(child, "SIGTERM"), 0);
    assert.equal(await mountedAt(mnt), undefined);
  });

  it("goes away at SIGTERM from under a program that uses it", async () => {
    const child = await start();
    const user = spawn("sh", ["-c", "echo up; exec sleep 60"], { cwd: mnt });
    children.push(user);
    await once(user.stdout, "data");
    assert.equal(await end(child, "SIGTERM"), 0);
    assert.equal(await mountedAt(mnt), undefined);
  });

  it("refuses a place in use or not empty in one line with the cure", async () => {
    const refused = (directory: string) =>
      run(process.execPath, [
        "--import=tsx",
        join(import.meta.dirname, "../lib/memory-mount.ts"),
        directory,
      ]).then(
        () => "",
        (error: unknown) => (error as { stderr: string }).stderr,
      );
    await start();
    assert.match(
      await refused(mnt),
      /^Cannot mount at ".*": a file system \(fuse\.weir\) is mounted there; unmount it with .*\n$/,
    );
    const full = join(scratch, "full");
    await mkdir(full);
    await writeFile(join(full, "precious"), "");
    assert.match(
      await refused(full),
      /^Cannot mount at ".*": it is not empty \(it has "precious"\).*\n$/,
    );
    assert.match(
      await refused(join(full, "precious")),
      /^Cannot mount at ".*": it is no directory, .*\n$/,
    );
  });
});
