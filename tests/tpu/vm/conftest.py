"""Fixtures of the tests of `tpu/vm`."""

import contextlib
import os
import shutil
import signal

import pytest

from tests.tpu.vm.cloud import Cloud, copy_checkout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the part of the checkout that the scripts need, for all tests: do not change it."""
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def cloud(tmp_path, checkout):
    """A `Cloud` without TPUs, called from `checkout`; what is left running is killed."""
    cloud = Cloud(tmp_path / "cloud", checkout)
    yield cloud
    shutil.rmtree(checkout / "build", ignore_errors=True)
    for pid_file in cloud.folder.glob("hosts/*/vitbert/*.pid"):
        process = int(pid_file.read_text())
        with contextlib.suppress(OSError):  # it has ended; its number may be another's by now
            if os.path.samefile(f"/proc/{process}/cwd", pid_file.parent):
                os.kill(process, signal.SIGKILL)
