#!/bin/sh
# Saves a cluster while it runs:
#   backup.sh DATA TARGET files
#   backup.sh DATA TARGET redis [-h HOST -p PORT …]    options of redis-cli; the password by REDISCLI_AUTH
#   backup.sh DATA TARGET postgres CONNECTION          as pg_dump takes it; the password by PGPASSWORD
# DATA is the data folder of the silos, TARGET an empty folder elsewhere. restore.sh puts it back.
#
# A state names the parameters that its trial goes on with, and those are removed after the next commit. So DATA/hold-versions
# keeps silos from removing any for the time of this program: what the states that are saved first name is there when the folder is.
set -eu
if [ $# -lt 3 ]; then sed -n '2,6s/^# //p' "$0" >&2; exit 2; fi
data=$1 target=$2 kind=$3
shift 3
mkdir -p "$target"
if [ -n "$(ls -A "$target")" ]; then echo "'$target' is not empty." >&2; exit 1; fi
trap 'rm -f "$data/hold-versions"' EXIT
trap 'exit 1' HUP INT TERM
: > "$data/hold-versions"
# Until every silo sees it: at once on a disk, within a minute on network volumes.
sleep "${HOLD_SECONDS:-60}"

# Of a file that grows or is replaced meanwhile tar has the beginning or the old one, as a crash would leave it, and says so with 1.
save() { tar --create --directory "$data" "$@" || [ $? -eq 1 ]; }

case $kind in
  files) save --file "$target/state.tar" ./state ;;
  redis) redis-cli "$@" --rdb "$target/redis.rdb" ;;
  postgres) pg_dump --format=custom --file "$target/state.dump" "$@" ;;
  *) echo "'$kind' is none of files, redis, postgres." >&2; exit 2 ;;
esac
# Journals repeat what lies in its place already, and members are those of then.
save --file "$target/data.tar" --exclude=./wal --exclude=./state --exclude=./cluster --exclude=./hold-versions .
