#!/bin/sh
# Stands in for a silo's process: joins, stays, stops when told. $FAKE_SILO says how it misbehaves.
for argument; do
  case "$argument" in
    --Silo:Name=*) name="${argument#*=}" ;;
    --Silo:DataFolder=*) data="${argument#*=}" ;;
    --Silo:ParentProcessId=*) parent="${argument#*=}" ;;
  esac
done
mode=$(cat "$data/mode" 2>/dev/null)
echo "starting $name threads=$OMP_NUM_THREADS parent=$parent" >&2
if [ "$mode" = fails ]; then echo "libtorch is missing" >&2; exit 7; fi
if [ "$mode" = stubborn ]; then trap '' TERM; else trap 'echo "stopping $name" >&2; kill $sleeper; exit 0' TERM; fi
echo "just a line"
echo "{\"ready\":true,\"name\":\"$name\",\"processId\":$$,\"address\":\"127.0.0.1\",\"siloPort\":1,\"gatewayPort\":2,\"httpPort\":3,\"dataFolder\":\"$data\"}"
echo "$$" >> "$data/$name.pids"
if [ "$mode" = dies ]; then exit 134; fi
sleep 600 & sleeper=$!
while ! wait $sleeper; do :; done
