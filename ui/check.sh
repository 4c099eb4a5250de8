#!/usr/bin/env bash
# Fails when the page that the server embeds is not what its source builds to, or is too large.
set -euo pipefail
cd "$(dirname "$0")"

readonly page=../crates/server/page
readonly budget=60000 # bytes, compressed

[ -d node_modules ] || npm ci --ignore-scripts
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

npx tsc --noEmit
PAGE_FOLDER="$built" npx vite build --logLevel warn
if ! diff -rq "$built" "$page"; then
  echo "crates/server/page is not what ui/ builds to: run 'npm run build' in ui/ and commit the page" >&2
  exit 1
fi

size=0
for file in "$page"/*; do
  size=$((size + $(gzip -9 -n -c "$file" | wc -c)))
done
if [ "$size" -gt "$budget" ]; then
  echo "the page is $size bytes compressed, more than $budget: leave something out" >&2
  exit 1
fi
echo "the page is as built, $size of $budget bytes compressed"
