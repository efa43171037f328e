"""What the tests of all packages share: folders that are made once, for all test processes."""

import gc
import hashlib
import os
import pathlib
import re
import sys

import filelock
import pytest

from pipelines import status
from tests.traces import forget_lines

# As in commands, which set it before they import TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Graphs are many objects that live long: to look for garbage among them less often saves time.
gc.set_threshold(100_000, 20, 50)
_MOST_PROCESSES, _BYTES_OF_PROCESS = 3, 7e9  # a third keeps two cores busy while others wait


def pytest_xdist_auto_num_workers():
    """As many test processes as memory has room for: the slow tests of one fill these bytes."""
    found = [_BYTES_OF_PROCESS * _MOST_PROCESSES]
    # Of the machine, in kB, and of a container, in bytes, which says "max" if it has no limit.
    for file, form, unit in (
        ("/proc/meminfo", r"MemAvailable: *(\d+)", 1024),
        ("/sys/fs/cgroup/memory.max", r"(\d+)", 1),
    ):
        if os.path.exists(file) and (match := re.search(form, pathlib.Path(file).read_text())):
            found.append(int(match[1]) * unit)
    return int(max(1, min(found) // _BYTES_OF_PROCESS))


def pytest_collection_finish():
    """Among several processes, those that trace; one alone (`-n 0`) is for looking for faults."""
    if "PYTEST_XDIST_WORKER" in os.environ and "tensorflow" in sys.modules:
        forget_lines()


def pytest_unconfigure():
    """The processes end, and nobody needs to know what is garbage in them."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_timed_before(monkeypatch):
    """What begins is said as in a new process, however long it took in the tests before."""
    monkeypatch.setattr(status, "_took", {})


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make) -> folder`, which `make(folder)` has filled; leave it as it is.

    Of several test processes (pytest-xdist) one makes it, and the others wait for that.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def made_once(name, make):
        folder = pathlib.Path(shared) / "made_once" / _short(name)
        folder.parent.mkdir(exist_ok=True)
        done = folder.with_name(f"{folder.name}.done")
        with filelock.FileLock(f"{folder}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def sources(made_once):
    """A folder with TFRecords of both modalities and a config, see `tiny_runs.write_sources`."""
    from tests.keras_vitbert.tiny_runs import write_sources

    return made_once("sources", write_sources)


@pytest.fixture(scope="session")
def finished(sources, made_once):
    """`finished(variant, *flags, own_teachers=False) -> folder` of an undisturbed run.

    Leave it as it is. Teachers are the runs of `vit` and `bert`, handed in, unless a run is asked
    to train its own. Of the runs without flags that of `joint` draws activation maps.
    """
    from keras_vitbert.configs.pretraining import VARIANTS
    from tests.keras_vitbert.tiny_runs import pretrain

    def finished(variant, *flags, own_teachers=False):
        name = "-".join(["run", variant, *(re.sub(r"[^\w.=]", "_", flag) for flag in flags)])
        given = []
        if (variant, *flags) == ("joint",):
            given = ["--config.inspection.activation_interval=5"]
        if own_teachers:
            name += "-own_teachers"
        elif VARIANTS[variant].distillation:
            given = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]

        def make(folder):
            assert pretrain(sources, folder, f"--variant={variant}", *given, *flags) == 0

        return made_once(name, make)

    return finished


@pytest.fixture(scope="session")
def image_task(made_once):
    """A folder of images; leave it as it is."""
    from tests.keras_vitbert.tiny_tasks import write_images

    return made_once("image_task", write_images)


@pytest.fixture(scope="session")
def text_task(made_once):
    """A folder of TSV files; leave it as it is."""
    from tests.keras_vitbert.tiny_tasks import write_texts

    return made_once("text_task", write_texts)


def _short(name):
    """A name that fits into a file system's: long ones end with their digest."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return name if len(name) < 100 else f"{name[:80]}-{digest[:16]}"
