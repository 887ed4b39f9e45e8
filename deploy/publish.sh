#!/bin/sh
# publish.sh FOLDER [cpu|cuda]: what deploy/Dockerfile puts into an image, without an engine: FOLDER/app, FOLDER/libtorch, and how
# large they are. The base image (mcr.microsoft.com/dotnet/aspnet:10.0) comes on top of that.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd) backend=${2:-cpu}
cd "$(dirname "$0")/.."
rm -rf "$folder/app" "$folder/libtorch"
dotnet publish src/Silo/Silo.csproj -c Release -r linux-x64 --no-self-contained -p:TorchBackend="$backend" -p:UseAppHost=false -p:ArtifactsPath="$folder/build" -o "$folder/app" >&2
deploy/split-libtorch.sh "$folder/app" "$folder/libtorch"
for layer in app libtorch; do echo "$layer $(du --summarize --apparent-size --block-size=1M "$folder/$layer" | cut -f 1) MiB"; done
