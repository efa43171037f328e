# Shared by the commands of this folder. For bash 3.2 (macOS) and later.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # used by those who source this
name='' zone='' project='' tpu='' version='' worker='' spot='' preemptible='' stop='' yes='' \
  backend=''
dry_run=''
rest=() # what followed "--"
exec 3>&1

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# parse_flags "FLAG ..." ARGUMENT...: sets the variable of each flag that is given. A flag that is
# written as FLAG= takes a value.
parse_flags() {
  local known=" $1 " flag
  shift
  while (($#)); do
    flag=${1#--}
    flag=${flag%%=*}
    case $1 in
      --)
        shift
        rest=("$@")
        return
        ;;
      --help | -h)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      --*) ;;
      *) die "unexpected argument '$1'; --help shows how" ;;
    esac
    case $known in
      *" $flag= "*)
        if [[ $1 != *=* ]]; then
          (($# > 1)) || die "--$flag needs a value"
          shift
          set -- "--$flag=$1" "${@:2}"
        fi
        printf -v "$flag" %s "${1#*=}"
        ;;
      *" $flag "*)
        [[ $1 != *=* ]] || die "--$flag takes no value"
        printf -v "$flag" true
        ;;
      *) die "unknown flag --$flag; --help shows how" ;;
    esac
    shift
  done
}

# need FLAG...: checks that each is given, and that gcloud is installed unless --dry_run.
need() {
  local flag
  for flag in "$@"; do
    [ -n "${!flag}" ] || die "--$flag is missing; --help shows how"
  done
  [ -n "$dry_run" ] || command -v gcloud >/dev/null ||
    die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
}

# Prints the number of hosts of --tpu; checks the type. Needs only Python itself.
find_hosts() {
  command -v python3 >/dev/null || die "python3 is not installed"
  (cd "$root" && python3 -c '
import sys
from pipelines.command_line import run
from tpu.slices import find_slice
sys.exit(run(lambda argv: print(find_slice(*argv).hosts)))' "$tpu")
}

# Quotes words for a shell.
quoted() {
  local word words=() quote="'" escaped="'\\''"
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_=./:,@%+-]+$ ]] || word="'${word//$quote/$escaped}'"
    words+=("$word")
  done
  printf %s "${words[*]}"
}

# Prints a command, ready to paste, and runs it unless --dry_run.
execute() {
  if [ -n "$dry_run" ]; then
    quoted "$@" >&3
    echo >&3
  else
    echo "+ $(quoted "$@")" >&2
    "$@"
  fi
}

# tpu_vm ACTION ARGUMENT...: gcloud for the TPU --name; "scp" has it in its arguments.
tpu_vm() {
  local action=$1 where=("--zone=$zone") node=("$name")
  shift
  [ -z "$project" ] || where+=("--project=$project")
  [ "$action" != scp ] || node=()
  execute gcloud compute tpus tpu-vm "$action" ${node[@]+"${node[@]}"} "${where[@]}" "$@"
}

# on_worker NUMBER|all COMMAND: runs it in the shell of a VM, in ~/vitbert.
on_worker() {
  tpu_vm ssh "--worker=$1" "--command=cd vitbert && $2"
}
