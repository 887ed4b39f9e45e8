#!/usr/bin/env bash
# upgrade-from.sh COMMIT: builds the silo of an older commit beside this checkout and runs UpgradeTests from that build to this one,
# both in one cluster meanwhile. Run it before a release, with the commit of the one before.
set -euo pipefail
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
commit=$(git -C "$root" rev-parse --verify "$1^{commit}")
old="$root/artifacts/old/${commit:0:12}"
[ -e "$old" ] || git -C "$root" worktree add --detach "$old" "$commit"
dotnet build -c Release "$old/src/Silo/Silo.csproj"
ADJOINTDPM_OLD_SILO="$old/artifacts/bin/Silo/release/AdjointDpm.Silo.dll" dotnet run --project "$root/tests/Cluster.Tests" -c Release -- -class '*UpgradeTests' -showLiveOutput
git -C "$root" worktree remove --force "$old"
