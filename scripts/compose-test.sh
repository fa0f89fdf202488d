#!/bin/sh
# Runs compose.yaml for real, where a docker engine is at hand (DOCKER_HOST or the local socket): builds, brings up,
# writes and reads a file, kills the leader's container, reads and writes again, takes everything down.
#   WEIR_BASE=NAME:TAG   another base image than the default
set -eu
cd "$(dirname "$0")/.."
if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi
command -v "${compose%% *}" >/dev/null 2>&1 && docker info >/dev/null 2>&1 || {
  echo "Cannot run compose.yaml: no docker engine answers. Cure: start one, and set DOCKER_HOST where it is not local" >&2
  exit 1
}
compose="$compose --project-name weir-compose-test --file compose.yaml"
say() { printf '%s\n' "· $*"; }
weir() { $compose exec -T worker-1 weir "$@"; }
fail() {
  printf '%s\n' "✗ $*" >&2
  $compose ps >&2
  $compose logs --tail=30 >&2
  exit 1
}
trap '$compose down --volumes --timeout 10 >/dev/null 2>&1' EXIT INT TERM

say "building"
$compose build >build.log 2>&1 || { tail -n 30 build.log >&2; rm -f build.log; exit 1; }
rm -f build.log
say "up"
$compose up -d >/dev/null 2>&1 || fail "the services did not come up"
leader_of() { weir status --json 2>/dev/null | sed -n 's/.*"leader":"\([^"]*\)".*/\1/p'; }
live_workers() { weir status --json 2>/dev/null | grep -o '"state":"live"' | wc -l; }
tries=0
while [ -z "$(leader_of)" ] || [ "$(live_workers)" -lt 2 ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || fail "no leader and two workers within a minute"
  sleep 1
done
leader=$(leader_of)
say "leader $leader, two workers"

date >expected.$$
trap 'rm -f expected.$$; $compose down --volumes --timeout 10 >/dev/null 2>&1' EXIT INT TERM
weir fs put - /before <expected.$$ >/dev/null || fail "a file could not be written"
[ "$(weir fs cat /before)" = "$(cat expected.$$)" ] || fail "the file reads differently"
say "a file written and read"

$compose kill -s SIGKILL "$leader" >/dev/null 2>&1
[ "$(weir fs cat /before)" = "$(cat expected.$$)" ] || fail "the file cannot be read without $leader"
weir fs put - /after <expected.$$ >/dev/null || fail "nothing can be written without $leader"
[ "$(weir fs cat /after)" = "$(cat expected.$$)" ] || fail "the second file reads differently"
say "$leader killed: $(leader_of) leads, a file read and another written"

$compose down --volumes --timeout 10 >/dev/null 2>&1 || fail "down failed"
say "down"
echo "1 passed, 0 failed"
