#!/bin/sh
# Builds what changed, then measures it: the processes of a bench run what users run, not what the sources are turned
# into on the fly. Standard output is the bench's alone; arguments are those of bench/main.ts.
set -eu
cd "$(dirname "$0")/.."
sh scripts/build.sh >&2
export WEIR_TEST_DIST=1
exec node --import tsx bench/main.ts "$@"
