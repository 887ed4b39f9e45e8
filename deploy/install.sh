#!/bin/sh
# install.sh FOLDER [cpu|cuda]: `adpm` for every day. FOLDER/adpm is the client, compiled ahead of time so that its commands begin at once;
# FOLDER/silo is what `adpm run` starts. Needs the .NET SDK; the machine that runs it, the .NET and ASP.NET runtimes.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd) backend=${2:-cpu}
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
publish() { dotnet publish "$@" -c Release -r linux-x64 --no-self-contained -p:ArtifactsPath="$build" >&2; }
publish src/Client/Client.csproj -p:BuildSilo=false -p:PublishReadyToRun=true -o "$folder"
publish src/Silo/Silo.csproj -p:TorchBackend="$backend" -p:UseAppHost=false -o "$folder/silo"
echo "Installed. Put $folder on your PATH, or run $folder/adpm doctor."
