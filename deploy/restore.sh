#!/bin/sh
# Puts back what backup.sh has saved, while no silo runs:
#   restore.sh TARGET DATA files
#   restore.sh TARGET DATA redis FOLDER                FOLDER is the server's, with no database in it; the server does not run
#   restore.sh TARGET DATA postgres CONNECTION         as pg_restore takes it; an empty database
# TARGET is the folder of the backup, DATA the data folder, empty. Afterwards start the server, then the silos.
set -eu
if [ $# -lt 3 ]; then sed -n '2,6s/^# //p' "$0" >&2; exit 2; fi
target=$1 data=$2 kind=$3
shift 3
mkdir -p "$data"
if [ -n "$(ls -A "$data")" ]; then echo "'$data' is not empty." >&2; exit 1; fi
case $kind in
  files) tar --extract --file "$target/state.tar" --directory "$data" ;;
  redis)
    # A server with an append-only file reads that and no other, so it must be made of what was saved: by a server without one, that then begins one.
    folder=$1 socket=$1/restore.sock
    if [ -e "$folder/appendonlydir" ] || [ -e "$folder/dump.rdb" ]; then echo "'$folder' holds a database." >&2; exit 1; fi
    cp "$target/redis.rdb" "$folder/dump.rdb"
    redis-server --dir "$folder" --port 0 --unixsocket "$socket" --save '' --appendonly no --daemonize yes --logfile restore.log
    until redis-cli -s "$socket" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
    redis-cli -s "$socket" config set appendonly yes
    until redis-cli -s "$socket" info persistence | tr -d '\r' | grep -qx aof_rewrite_in_progress:0 && [ -n "$(ls "$folder/appendonlydir" 2>/dev/null | grep base)" ]; do sleep 0.1; done
    redis-cli -s "$socket" info persistence | tr -d '\r' | grep -qx aof_last_bgrewrite_status:ok
    redis-cli -s "$socket" shutdown nosave
    rm -f "$folder/dump.rdb" "$folder/restore.log" ;;
  postgres) pg_restore --no-owner --exit-on-error --dbname "$1" "$target/state.dump" ;;
  *) echo "'$kind' is none of files, redis, postgres." >&2; exit 2 ;;
esac
tar --extract --file "$target/data.tar" --directory "$data"
