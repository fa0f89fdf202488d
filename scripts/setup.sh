#!/bin/sh
# Makes sure that what Weir runs on is there, and installs what it may: npm packages from the lock file, Debian
# packages with apt-get. What it cannot install it names, each with its command, and exits 1. Quiet when all is there.
#
#   setup.sh [--no-fuse] [--s3]     --no-fuse: nothing for the mount;  --s3: also what the S3 server needs
set -u
cd "$(dirname "$0")/.." || exit 1
want_fuse=yes want_s3=no
for argument in "$@"; do
  case $argument in
    --no-fuse) want_fuse=no ;;
    --s3) want_s3=yes ;;
  esac
done
PATH=$PATH:/usr/sbin:/sbin

complain() { printf '%s\n' "$*" >&2; }

# --- Node ---
if ! command -v node >/dev/null 2>&1; then
  complain "Cannot set up Weir: Node.js is missing, wanted 20.19 or newer (https://nodejs.org, or your system's package)"
  exit 1
fi
version=$(node -p process.versions.node)
major=${version%%.*} rest=${version#*.}
minor=${rest%%.*}
if [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -lt 19 ]; }; then
  complain "Cannot set up Weir: Node.js is $version, wanted 20.19 or newer (https://nodejs.org, or your system's package)"
  exit 1
fi

# --- npm packages: when there are none, when an install was cut short, when the lock file changed ---
stamp=node_modules/.weir-lock.json
packages_are_current() {
  [ -e node_modules/.package-lock.json ] || return 1
  if [ -e "$stamp" ]; then cmp -s package-lock.json "$stamp" && return 0; fi
  [ node_modules/.package-lock.json -nt package-lock.json ]
}
if ! packages_are_current; then
  if [ -L node_modules ]; then
    # npm would empty what the link points to, which may be in use elsewhere.
    complain "Cannot install npm packages: node_modules is a link to another directory. Cure: rm node_modules, then run it again"
    exit 1
  fi
  echo "Installing npm packages …"
  log=$(mktemp) || exit 1
  if ! npm ci --no-audit --no-fund --loglevel=error >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    complain "Cannot set up Weir: npm ci failed (above). Cure: see that the package registry can be reached, then run it again"
    exit 1
  fi
  rm -f "$log"
fi
cmp -s package-lock.json "$stamp" || cp package-lock.json "$stamp"

# --- Debian packages, by the thing they bring ---
has_library() {
  for directory in /lib /usr/lib /usr/local/lib /lib/*-linux-gnu /usr/lib/*-linux-gnu /lib64 /usr/lib64; do
    [ -e "$directory/$1" ] && return 0
  done
  return 1
}
missing_packages() {
  command -v nats-server >/dev/null 2>&1 || echo nats-server
  if [ "$want_fuse" = yes ]; then
    { command -v fusermount3 && command -v fusermount; } >/dev/null 2>&1 || echo fuse3
    has_library libfuse.so.2 || echo libfuse2
  fi
  if [ "$want_s3" = yes ]; then
    command -v radosgw >/dev/null 2>&1 || echo radosgw
    command -v ceph-mon >/dev/null 2>&1 || echo ceph-mon
    command -v ceph-osd >/dev/null 2>&1 || echo ceph-osd
  fi
}
purpose_of() {
  case $1 in
    nats-server) echo "carries block bytes between workers and clients" ;;
    fuse3) echo "mounts file systems (fusermount)" ;;
    libfuse2) echo "libfuse.so.2, used by the fuse-native package" ;;
    *) echo "the S3 server of tests and of --s3" ;;
  esac
}

missing=$(missing_packages)
if [ -n "$missing" ]; then
  as_root=none
  if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ]; then
      as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
      as_root="sudo -n"
    fi
  fi
  if [ "$as_root" != none ]; then
    echo "Installing Debian packages:" $missing "…"
    log=$(mktemp) || exit 1
    install() {
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >>"$log" 2>&1
    }
    updated=no
    for package in $missing; do
      alternative=$package
      [ "$package" = libfuse2 ] && alternative=libfuse2t64 # its name since the 64-bit time transition
      install "$package" || install "$alternative" && continue
      if [ "$updated" = no ]; then
        updated=yes
        $as_root apt-get update -qq >>"$log" 2>&1
        install "$package" || install "$alternative"
      fi
    done
    # The package starts its own server on port 4222, which Weir does not use and which would stand in its way.
    case " $(echo $missing) " in
      *" nats-server "*)
        if [ -d /run/systemd/system ]; then $as_root systemctl disable --now nats-server >/dev/null 2>&1; fi ;;
    esac
    missing=$(missing_packages)
    [ -z "$missing" ] || tail -n 10 "$log" >&2
    rm -f "$log"
  fi
fi
failed=no
for package in $missing; do
  name=$package
  [ "$package" = libfuse2 ] && name="libfuse2 (libfuse2t64 on newer releases)"
  complain "Missing: $name: $(purpose_of "$package"). Install it with:  sudo apt-get install $package"
  failed=yes
done

# --- the FUSE device ---
if [ "$want_fuse" = yes ]; then
  if [ ! -e /dev/fuse ]; then
    complain "Missing: /dev/fuse. Cure:  sudo modprobe fuse  (in a container: --device /dev/fuse --cap-add SYS_ADMIN), or go without a mount: --no-fuse (tests: WEIR_TEST_WITHOUT=fuse)"
    failed=yes
  elif [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
    complain "Not accessible: /dev/fuse is $(stat -c '%A, owner %U' /dev/fuse). Cure until the next boot:  sudo chmod 666 /dev/fuse  For good:  echo 'KERNEL==\"fuse\", MODE=\"0666\"' | sudo tee /etc/udev/rules.d/99-fuse.rules  Or go without a mount: --no-fuse (tests: WEIR_TEST_WITHOUT=fuse)"
    failed=yes
  fi
fi
if [ "$failed" = yes ]; then
  complain "Cannot set up Weir: see what is missing above, then run this again"
  exit 1
fi
