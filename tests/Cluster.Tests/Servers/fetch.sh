#!/usr/bin/env bash
# fetch.sh FOLDER PACKAGE…: unpacks Debian packages and those they need and this machine lacks into FOLDER/root. Needs no root and installs nothing.
set -euo pipefail
folder=$1; shift
mkdir -p "$folder"/{state/lists/partial,cache/archives/partial,root}
apt=(apt-get -q -o "Dir::State=$folder/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$folder/cache" -o Debug::NoLocking=1)
[ "$(id -u)" != 0 ] || apt+=(-o APT::Sandbox::User=root)
"${apt[@]}" update
"${apt[@]}" install --download-only --yes --no-install-recommends "$@"
for package in "$folder"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
rm -rf "$folder"/{state,cache}
