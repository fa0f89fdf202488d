#!/bin/sh
# The one gate of the code: types, lint, format. All three run, so that one call shows everything.
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp -d) || exit 1
trap 'rm -rf "$log"' EXIT
node_modules/.bin/tsc -p . >"$log/types" 2>&1 &
types=$!
node_modules/.bin/biome format . >"$log/format" 2>&1
format=$?
node_modules/.bin/eslint . >"$log/lint" 2>&1
lint=$?
wait $types
types=$?
status=0
report() {
  if [ "$2" -eq 0 ]; then echo "check: $1 ok"; return; fi
  cat "$log/$1"
  echo "check: $1 FAILED${3:+; cure: $3}"
  status=1
}
report types $types
report lint $lint
report format $format "npm run format"
exit $status
