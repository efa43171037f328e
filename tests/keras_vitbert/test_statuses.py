"""How real processes of the commands end: good, refused, stopped and failed ones."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.bad_input import places
from tests.keras_vitbert.tiny_runs import files_below

pytestmark = pytest.mark.slow

_TUNE = "keras_vitbert.finetune --checkpoint=run --data_dir=pairs"
_MANY_STEPS = "--config.steps=5000 --config.steps_per_epoch=5"
_BAD_RATE = "--config.steps=50 --config.optimizer.learning_rate=1e30 --max_divergences=0"
# A command line, its status, and what its last line of stderr, or else stdout, names.
DONE = [
    ("keras_vitbert", 0, "keras_vitbert.finetune"),
    ("keras_vitbert.pretrain --help", 0, "--variant"),
    ("keras_vitbert.predict --checkpoint=run --text='word1 [MASK]'", 0, "word"),
    (f"{_TUNE} --dry_run --output_dir=new", 0, "2: no, yes"),
    ("pipelines.vocabulary --help", 0, "--documents"),
]
REFUSED = [
    ("keras_vitbert.pretrain --no_such_flag=1", 2, "no_such_flag"),
    ("keras_vitbert.pretrain --config.no_such_key=1", 2, "no_such_key"),
    ("keras_vitbert.pretrain --config.steps=many", 2, "steps"),
    ("keras_vitbert.pretrain --config.model.num_heads=5", 2, "num_heads"),
    ("keras_vitbert.pretrain --variant=none", 2, "variant"),
    ("keras_vitbert.pretrain --config=paper", 2, "data.images.train"),
    ("keras_vitbert.pretrain --output_dir=others/bert", 2, "others/bert"),
    ("keras_vitbert.finetune --data_dir=pairs", 2, "checkpoint"),
    ("keras_vitbert.finetune --checkpoint=nowhere --data_dir=pairs", 2, "nowhere"),
    (f"{_TUNE} --train=bad_line/train.tsv", 2, "train.tsv, line 3"),
    (f"{_TUNE} --task=none", 2, "none"),
    (f"{_TUNE} --config.batch=0.5", 2, "batch"),
    ("keras_vitbert.predict --checkpoint=run --file=none.csv", 2, "none.csv"),
    ("keras_vitbert.export --checkpoint=nowhere --output_dir=made", 2, "nowhere"),
    ("keras_vitbert.aot --tpu=v9-8", 2, "v9-8"),
    ("pipelines.imagenet --train_folder=nowhere --output=made", 2, "nowhere"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return places.write(tmp_path_factory.mktemp("statuses") / "input")


def start(folder, line):
    return subprocess.Popen(
        [sys.executable, "-m", *shlex.split(line)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(places.TESTS.parent), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("line", "status", "named"), [*DONE, *REFUSED])
def test_a_command_that_writes_nothing(folder, line, status, named):
    before = files_below(folder)
    process = start(folder, line)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    if status:
        assert "Traceback" not in err and named in err.splitlines()[-1]
    else:
        assert named in out
    assert files_below(folder) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped(folder, number):
    process = start(folder, f"{_TUNE} {_MANY_STEPS} --output_dir=stopped-{number.name}")
    while not list(folder.glob(f"stopped-{number.name}/**/metrics.csv")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    assert process.communicate(timeout=300)[1].splitlines()[-1].startswith("stopped: ")
    assert process.returncode == 75


def test_a_training_that_diverges(folder):
    process = start(folder, f"{_TUNE} {_BAD_RATE} --output_dir=diverged")
    assert process.communicate(timeout=300)[1].splitlines()[-1].startswith("diverged: ")
    assert process.returncode == 3


def test_output_that_nobody_reads(folder):
    process = start(folder, "keras_vitbert.predict --checkpoint=run --text='word1 [MASK]'")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read() and process.wait(300) == 141
