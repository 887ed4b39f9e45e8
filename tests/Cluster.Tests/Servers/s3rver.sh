#!/usr/bin/env bash
# s3rver.sh FOLDER: puts s3rver, as s3rver/package-lock.json pins it, and a program FOLDER/s3rver that runs it into FOLDER.
# Takes this machine's node and npm, else those of Debian's packages, unpacked into FOLDER/node. Needs no root and installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cp "$here"/s3rver/package*.json "$folder"
flags=(--prefix "$folder" ci --ignore-scripts --no-audit --no-fund --loglevel error)
if command -v node >/dev/null && command -v npm >/dev/null; then
  npm "${flags[@]}"
  run="exec '$(command -v node)'"
else
  "$here/fetch.sh" "$folder/node" nodejs npm
  usr=$folder/node/root/usr
  # Debian's node reads parts of itself from an absolute path; here they are found from the folder that it is started in. The length stays.
  sed -i 's#/usr/share/nodejs/#share/nodejs//////#g' "$usr"/lib/*-linux-gnu*/libnode.so.*
  libraries=$(echo "$usr"/lib/*-linux-gnu*)
  LD_LIBRARY_PATH=${libraries// /:}
  export LD_LIBRARY_PATH NODE_PATH=$usr/share/nodejs
  (cd "$usr" && bin/node share/nodejs/npm/bin/npm-cli.js "${flags[@]}")
  run="cd '$usr'; export LD_LIBRARY_PATH='$LD_LIBRARY_PATH'; exec bin/node"
fi
printf '#!/bin/sh\n%s "%s" "$@"\n' "$run" "$folder/node_modules/s3rver/bin/s3rver.js" >"$folder/s3rver.new"
chmod +x "$folder/s3rver.new"
mv "$folder/s3rver.new" "$folder/s3rver"
