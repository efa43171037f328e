#!/usr/bin/env bash
# Deletes a TPU with the disks of its hosts, which ends its costs. Files on gs:// stay.
#
#   tpu/vm/delete.sh --name=NAME --zone=ZONE [--yes] [--project=PROJECT] [--dry_run]

# shellcheck source=tpu/vm/common.sh
source "$(dirname "$0")/common.sh"

parse_flags "name= zone= project= yes dry_run" "$@"
need name zone

if [ -z "$yes$dry_run" ]; then
  read -r -p "Delete the TPU $name in $zone, with everything on its disks? [y/N] " answer || true
  [[ ${answer:-} == [yY]* ]] || die "not deleted: $name still costs money"
fi
tpu_vm delete --quiet
