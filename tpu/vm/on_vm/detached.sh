#!/usr/bin/env bash
# On a TPU VM: keeps a command running after the ssh connection that started it has ended.
#
#   detached.sh idle NAME               fails if NAME runs
#   detached.sh start NAME COMMAND...   fails if NAME runs; else starts it
#   detached.sh await NAME TEXT         waits until TEXT is in its log
#   detached.sh stop NAME               SIGTERM, and waits for the end
#
# The log is NAME.log in the working folder; the exit status is its last line. NAME.lock is locked
# while the command runs, so files left by a crash or a reboot do not look like a run.
set -euo pipefail
action=$1 name=$2
shift 2

die() {
  echo "error: $*" >&2
  exit 2
}

runs() { ! flock --nonblock "$name.lock" true; }

case $action in
  idle)
    ! runs || die "$name runs already on $(hostname)"
    ;;
  start)
    exec 9>>"$name.lock"
    flock --nonblock 9 || die "$name runs already on $(hostname)"
    rm -f "$name.pid"
    [ ! -e "$name.log" ] || mv -f "$name.log" "$name.log.old"
    # The command inherits the lock.
    # shellcheck disable=SC2016
    setsid bash -c '
      "${@:2}" &
      echo $! >"$1.pid"
      wait $! && status=0 || status=$?
      echo "exit status $status"
    ' bash "$name" "$@" >"$name.log" 2>&1 </dev/null &
    until [ -s "$name.pid" ]; do sleep 0.1; done
    echo "$name started on $(hostname)"
    ;;
  await)
    until grep --quiet --fixed-strings -- "$1" "$name.log"; do
      runs || die "$name ended on $(hostname): $(tail -n 3 "$name.log" | tr '\n' ' ')"
      ((SECONDS < 300)) || die "$name on $(hostname): no '$1' in its log after 5 minutes"
      sleep 1
    done
    ;;
  stop)
    if ! runs; then
      echo "$name does not run on $(hostname)"
      exit
    fi
    kill -TERM "$(cat "$name.pid")" || true # it has just ended
    # A checkpoint may take long, and is written only between two executions.
    flock --timeout 1800 "$name.lock" true || die "$name still runs on $(hostname)"
    echo "$name stopped on $(hostname): $(tail -n 1 "$name.log")"
    ;;
  *) die "no action $action" ;;
esac
