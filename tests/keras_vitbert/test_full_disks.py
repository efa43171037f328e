"""Commands on a disk that is full or read-only: one line, and nothing half-written.

The disks are small file systems in memory, which root may mount. Each command writes in a way of
its own: checkpoints and logs, a preset, and TFRecords of several processes.
"""

import os
import subprocess

import pytest

from keras_vitbert import convert, pretrain
from pipelines import command_line, imagenet
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE

PAGE = 4096  # bytes of which such a disk is made
ROOM = 64 << 20


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """The path of an empty disk of 64 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", path):
        pytest.skip("only root may mount a disk, and not everywhere")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


# Each with how many pages are left. With none not even the first file can be written, with some a
# later one cannot.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "flags", "free"),
    [
        (pretrain, "--config={sources}/config.py --variant=vit --output_dir={disk}/run", (0, 12)),
        # Where h5py may crash when the process ends.
        (convert, "--checkpoint={run} --output_dir={disk}/out", (0, 2)),
        (
            imagenet,
            "--folder={images} --output={disk}/images/data --train_shards=2 "
            "--validation_shards=1 -- --direct_num_workers=1",
            (0, 3),
        ),
    ],
)
def test_a_command(sources, finished, image_task, disk, capfd, command, flags, free):
    """On a read-only disk, then on fuller and less full ones; at last there is room."""
    argv = flags.format(sources=sources, run=finished("vit"), images=image_task, disk=disk).split()
    for pages in (None, *free):
        if pages is None:
            assert mount("-o", "remount,ro", disk)
        else:
            room = os.statvfs(disk).f_bavail
            (disk / "filler").write_bytes(bytes((room - pages) * PAGE))
        capfd.readouterr()
        status = command_line.run(command.main, argv)
        *_, line = capfd.readouterr().err.splitlines()
        reason = "Read-only file system" if pages is None else "No space left on device"
        assert status == EXIT_BAD_INPUT, line
        assert line.startswith("error: ") and reason in line and str(disk) in line, line
        left = [path for path in disk.rglob("*") if ".tmp" in path.name or "/." in str(path)]
        assert not left, pages
        assert mount("-o", "remount,rw", disk)
        (disk / "filler").unlink(missing_ok=True)
    assert command_line.run(command.main, argv) == EXIT_DONE  # and goes on where there is room
