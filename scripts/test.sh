#!/bin/sh
# Sets up, then runs everything: check, unit and property tests, simulation, integration on real parts, fault runs.
#   WEIR_TEST_WITHOUT=fuse,s3   leaves out, by name, the tests that need what this machine does not have
#   npm test -- PHASE …         runs only these of: check unit simulation integration jepsen
set -u
cd "$(dirname "$0")/.." || exit 1
case ${1:-} in -h | --help) exec sed -n 's/^#   *//p' "$0" ;; esac
without=",${WEIR_TEST_WITHOUT:-},"
options=
case $without in *,fuse,*) options="$options --no-fuse" ;; esac
case $without in *,s3,*) ;; *) options="$options --s3" ;; esac
sh scripts/setup.sh $options || exit 1
sh scripts/build.sh || exit 1
# What was just built starts faster than the sources.
export WEIR_TEST_DIST=1
exec node --import tsx scripts/run-tests.ts "$@"
