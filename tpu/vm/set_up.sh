#!/usr/bin/env bash
# Copies this checkout to all hosts of a TPU and installs its dependencies. Run it again after every
# change of the code; it fails while a run goes on, and with several hosts until run.sh --stop has
# also stopped their servers.
#
#   tpu/vm/set_up.sh --name=NAME --zone=ZONE [--backend=jax] [--project=PROJECT] [--dry_run]
#
# --backend=jax installs JAX, beside what TensorFlow needs if that was installed.
# It copies only the packages of the project, with uncommitted changes, but no data and no runs.

# shellcheck source=tpu/vm/common.sh
source "$(dirname "$0")/common.sh"

parse_flags "name= zone= backend= project= dry_run" "$@"
need name zone
case $backend in
  '' | jax | tensorflow) ;;
  *) die "--backend=$backend: give jax or tensorflow" ;;
esac

archive=$root/build/vitbert.tar.gz # build/ is not under version control
execute mkdir -p "$root/build"
execute env COPYFILE_DISABLE=1 tar -C "$root" --exclude=__pycache__ -czf "$archive" \
  setup.py pyproject.toml README.md LICENSE keras_vitbert pipelines tpu
tpu_vm scp --worker=all "$archive" "$name:vitbert.tar.gz"
tpu_vm ssh --worker=all "--command=rm -rf vitbert/new && mkdir -p vitbert/new && \
tar -C vitbert/new -xzf vitbert.tar.gz && \
bash vitbert/new/tpu/vm/on_vm/install.sh ${backend:-tensorflow}"
