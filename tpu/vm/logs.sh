#!/usr/bin/env bash
# Follows the log of the program on a TPU; Ctrl-C does not end the program.
#
#   tpu/vm/logs.sh --name=NAME --zone=ZONE [--worker=N] [--project=PROJECT] [--dry_run]
#
# --worker=N follows host N instead: its server, or with --backend=jax its program.

# shellcheck source=tpu/vm/common.sh
source "$(dirname "$0")/common.sh"

parse_flags "name= zone= project= worker= dry_run" "$@"
need name zone
[[ $worker =~ ^[0-9]*$ ]] || die "--worker=$worker: not the number of a host"

log=train.log
# shellcheck disable=SC2016 # expanded on the VM
[ -z "$worker" ] || log='"$(ls server.log 2>/dev/null || echo train.log)"'
# With a terminal (-t), so that Ctrl-C ends tail on the VM too.
tpu_vm ssh "--worker=${worker:-0}" "--command=cd vitbert && tail -n 100 -F $log" -- -t
