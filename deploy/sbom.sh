#!/bin/sh
# sbom.sh FOLDER: FOLDER/adjointdpm-silo.cdx.json, every package that the silo is made of, with versions, licences and hashes, as
# CycloneDX. Of a checkout that was built. What the base image adds, `docker buildx build --sbom=true` writes down.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
dotnet tool restore >&2
version=$(sed -n 's:.*<Version>\(.*\)</Version>.*:\1:p' Directory.Build.props)
dotnet dotnet-CycloneDX src/Silo/Silo.csproj --output "$folder" --filename adjointdpm-silo.cdx.json --output-format Json --base-intermediate-output-path artifacts/obj \
  --disable-package-restore --no-serial-number --set-name adjointdpm-silo --set-version "$version" >&2
echo "$folder/adjointdpm-silo.cdx.json"
