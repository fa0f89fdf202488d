#!/bin/sh
# Compiles src/ to dist/ when a source is newer than the last whole build.
set -eu
cd "$(dirname "$0")/.."
stamp=dist/.built
if [ ! -e "$stamp" ] || [ -n "$(find src package.json tsconfig.json tsconfig.build.json -newer "$stamp" -print | head -n 1)" ]; then
  echo "Building …"
  mkdir -p dist
  [ -e "$stamp" ] || rm -f node_modules/.cache/tsc/build.tsbuildinfo # else the compiler believes that dist/ is whole
  touch dist/.building # sources that change while the compiler runs are newer than this
  if ! node_modules/.bin/tsc -p tsconfig.build.json; then
    echo "Cannot build Weir: the compiler found the errors above" >&2
    exit 1
  fi
  chmod +x dist/src/cli/main.js
  mv dist/.building "$stamp"
fi
