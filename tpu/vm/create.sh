#!/usr/bin/env bash
# Creates a TPU and waits until it is READY. It costs money until it is deleted.
#
#   tpu/vm/create.sh --name=NAME --zone=ZONE --tpu=v3-128 [--spot | --preemptible]
#                    [--version=RUNTIME_VERSION] [--project=PROJECT] [--dry_run]
#
# An existing TPU is left unchanged. --dry_run only prints the commands.

# shellcheck source=tpu/vm/common.sh
source "$(dirname "$0")/common.sh"

parse_flags "name= zone= tpu= project= version= spot preemptible dry_run" "$@"
need name zone tpu
find_hosts >/dev/null
[ -z "$spot" ] || [ -z "$preemptible" ] || die "--spot and --preemptible: give one of them"

# Images without TensorFlow: set_up.sh installs it.
case $tpu in
  v5litepod-*) image='v2-alpha-tpuv5-lite' ;;
  v5p-*) image='v2-alpha-tpuv5' ;;
  v6e-*) image='v2-alpha-tpuv6e' ;;
  *) image='tpu-ubuntu2204-base' ;;
esac

# "STATE TYPE", or nothing. Without standard input gcloud does not wait for an answer.
describe() {
  tpu_vm describe "--format=value(state,acceleratorType.basename())" </dev/null
}

# If this fails for another reason than a missing TPU, the next command fails too, and says why.
read -r state type <<<"$(describe 2>/dev/null || true)"
if [ -z "$state" ]; then
  tpu_vm create "--accelerator-type=$tpu" "--version=${version:-$image}" \
    ${spot:+--spot} ${preemptible:+--preemptible}
elif [ "$type" != "$tpu" ]; then
  die "$name exists already and is a $type, not a $tpu: give another name, or delete it"
fi

while :; do
  read -r state type <<<"$(describe)"
  [ -z "$dry_run" ] || exit 0
  case $state in
    READY) break ;;
    CREATING | STARTING | RESTARTING | REPAIRING | REIMAGING) sleep 10 ;;
    *) die "$name is '$state': delete it by tpu/vm/delete.sh and create it again" ;;
  esac
done
echo "$name is READY; next: tpu/vm/set_up.sh --name=$name --zone=$zone"
