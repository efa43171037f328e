#!/usr/bin/env bash
# On a TPU VM: installs the checkout that was unpacked to ~/vitbert/new, as ~/vitbert/code.
#
#   install.sh tensorflow|jax
set -euo pipefail
cd "$HOME/vitbert"

# Held by a run and, with several hosts, by the server on each; see detached.sh.
exec 8>>server.lock 9>>train.lock
if ! flock --nonblock 8 || ! flock --nonblock 9; then
  echo "error: a run or its server is active on $(hostname): stop it first, with \
tpu/vm/run.sh --stop" >&2
  exit 2
fi
rm -rf code
mv new code

# The base images have Python 3.10, and the project needs 3.11, which uv installs. Unlike pip, uv
# can leave out a dependency (overrides.txt).
python3 -m pip install --quiet --user 'uv>=0.9,<1'
venv=venv
what=(--override code/tpu/vm/overrides.txt --requirement code/tpu/vm/requirements.txt
  --editable "code[sample]")
if [ "$1" = jax ]; then
  venv='venv-jax' # its libtpu is newer than tensorflow-tpu's
  what=(--editable "code[sample,jax-tpu]")
fi
if [ ! -x $venv/bin/python ]; then
  python3 -m uv venv --quiet --python 3.11 $venv
fi
# The date fixes the tested set of versions: tensorflow-tpu gets no more releases.
python3 -m uv pip install --quiet --python $venv/bin/python --exclude-newer 2026-11-24 "${what[@]}"

# TPU_LOAD_LIBRARY=0: the chips may be in use by a server.
TPU_LOAD_LIBRARY=0 JAX_PLATFORMS=cpu KERAS_BACKEND=$1 TF_CPP_MIN_LOG_LEVEL=2 $venv/bin/python -c '
import importlib, sys
import keras, tensorflow, tensorflow_text, keras_hub, keras_vitbert.experiments.pretraining.run
backend = importlib.import_module(sys.argv[1])
print(f"{sys.argv[1]} {backend.__version__}, Keras {keras.__version__}: ready")' "$1"
