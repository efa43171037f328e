#!/usr/bin/env bash
# Starts a program on a TPU, which runs on without this connection; or stops it.
#
#   tpu/vm/run.sh --name=NAME --zone=ZONE --tpu=v3-128 [--project=PROJECT] [--dry_run] -- \
#       -m keras_vitbert.pretrain --config=paper ...
#   tpu/vm/run.sh --name=NAME --zone=ZONE --stop
#
# The arguments behind "--" are for Python; --tpu is added to them. With --backend=jax among them,
# every host runs the program. On TensorFlow the first one does and, if there are several, each runs
# a server. --stop lets the program write a checkpoint, from which the same command resumes.

# shellcheck source=tpu/vm/common.sh
source "$(dirname "$0")/common.sh"

parse_flags "name= zone= tpu= project= stop dry_run" "$@"
need name zone
detached="bash code/tpu/vm/on_vm/detached.sh"

if [ -n "$stop" ]; then
  ((${#rest[@]} == 0)) || die "--stop takes no command"
  on_worker all "$detached stop train"
  on_worker all "$detached stop server" # after the program, which saves through them
  exit
fi

need tpu
((${#rest[@]})) || die "no program: give it behind --, such as: -- -m keras_vitbert.pretrain"
hosts=$(find_hosts)
given=''
for word in "${rest[@]}"; do
  [[ $word != --tpu && $word != --tpu=* ]] || given=true
done
[ -n "$given" ] || rest+=("--tpu=$tpu")

environment=(PYTHONUNBUFFERED=1)
python=venv/bin/python worker=0
jax=' --?backend[= ]jax( |$)'
if [[ " ${rest[*]}" =~ $jax ]]; then
  # The hosts wait for each other: none starts unless all can.
  python='venv-jax/bin/python' worker=all
  on_worker all "$detached idle train && \
{ test -x $python || { echo error: run set_up.sh --backend=jax first >&2; exit 2; }; }"
  on_worker all "$detached stop server >/dev/null && rm -f server.log"
elif ((hosts > 1)); then
  # The chips of worker 0 belong to its server, too.
  environment+=(TPU_LOAD_LIBRARY=0)
  on_worker all "$detached idle train"
  on_worker all "$detached stop server >/dev/null && \
$detached start server $python -m tpu.worker && $detached await server listening"
fi
on_worker "$worker" "$detached start train env $(quoted "${environment[@]}" $python "${rest[@]}")"
[ -n "$dry_run" ] || echo "its log: tpu/vm/logs.sh --name=$name --zone=$zone"
