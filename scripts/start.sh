#!/bin/sh
# Sets up, builds what changed, brings up a cluster on this machine and gives the tour; arguments are those of `weir start`.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh "$@"
sh scripts/build.sh
exec node dist/src/cli/main.js start --tour "$@"
