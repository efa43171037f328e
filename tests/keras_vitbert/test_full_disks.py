"""Every command on a disk that is full or read-only: one line, and nothing half-written.

The disks are small file systems in memory, which root may mount.
"""

import bz2
import importlib
import json
import os
import subprocess

import pytest

from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE
from tests.marks import slow, thorough

PAGE = 4096  # bytes of which such a disk is made
ROOM = 64 << 20


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """An empty disk of 64 MiB: `disk.leave(pages)`, `disk.forbid()`, `disk.allow()`."""

    class Disk:
        path = tmp_path / "disk"

        def leave(self, pages):
            """Fills all but some pages."""
            free = os.statvfs(self.path).f_bavail
            (self.path / "filler").write_bytes(bytes((free - pages) * PAGE))

        def forbid(self):
            assert mount("-o", "remount,ro", self.path)

        def allow(self):
            assert mount("-o", "remount,rw", self.path)
            (self.path / "filler").unlink(missing_ok=True)

    Disk.path.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", Disk.path):
        pytest.skip("only root may mount a disk, and not everywhere")
    yield Disk()
    subprocess.run(["umount", "-l", str(Disk.path)], check=True)


@pytest.fixture
def inputs(request, tmp_path):
    """What the commands read, by name; each is made when it is asked for."""

    class Inputs(dict):
        def __missing__(self, name):
            made = tmp_path / name
            if name == "documents":
                text = " ".join(f"word{n} likes word{n + 1}." for n in range(400))
                made.write_text((json.dumps({"title": "t", "paragraphs": [text] * 3}) + "\n") * 2)
            elif name == "books":
                made.mkdir()
                sentence = "It was a dark night, and the rain fell in torrents upon the roofs. "
                (made / "one.txt").write_text("\n\n".join([sentence * 9] * 20))
            elif name == "dump":
                text = f"<revision><text>{'A long sentence of words. ' * 20}</text></revision>"
                page = f"<page><title>T</title><ns>0</ns>{text}</page>"
                made.write_bytes(bz2.compress(f"<mediawiki>{page * 300}</mediawiki>".encode()))
            elif name == "vocabulary":
                made = request.getfixturevalue("sources") / "vocab.txt"
            elif name in ("sources", "image_task", "text_run"):
                made = request.getfixturevalue(name)
            elif name == "text_flags":
                made = request.getfixturevalue(name)
            else:
                made = request.getfixturevalue("finished")(name)
            self[name] = made
            return made

    return Inputs()


ONE = ("--", "--direct_num_workers=1")
# A command: its module, its arguments by its inputs and its disk, and how many pages of that are
# left. With none not even the first file can be written, with some a later one cannot.
COMMANDS = {
    "pretrain": (
        "keras_vitbert.pretrain",
        lambda given, disk: (
            f"--config={given['sources']}/config.py --variant=vit --output_dir={disk}/run"
        ),
        (0, 2, 12),
    ),
    "finetune": (
        "keras_vitbert.finetune",
        lambda given, disk: [*given["text_flags"], f"--output_dir={disk}/run"],
        (0, 10),
    ),
    "finetune --predictions": (
        "keras_vitbert.finetune",
        lambda given, disk: [
            *given["text_flags"],
            f"--output_dir={given['text_run']}",
            f"--predictions={disk}/all.csv",
        ],
        (0,),
    ),
    "predict": (
        "keras_vitbert.predict",
        lambda given, disk: f"--checkpoint={given['bert']} --text=[MASK] --output={disk}/out",
        (0,),
    ),
    "figures": (
        "keras_vitbert.figures",
        lambda given, disk: (
            f"--run={given['joint']} --figures=3 --output={disk}/figures --format=png"
        ),
        (0, 2),
    ),
    "export": (
        "keras_vitbert.export",
        lambda given, disk: f"--checkpoint={given['bert']} --output_dir={disk}/out",
        (0, 20),
    ),
    "convert": (
        "keras_vitbert.convert",
        lambda given, disk: f"--checkpoint={given['bert']} --output_dir={disk}/out",
        (0, 2),  # where h5py may crash when the process ends
    ),
    "imagenet": (
        "pipelines.imagenet",
        lambda given, disk: [
            f"--folder={given['image_task']}",
            f"--output={disk}/images/data",
            *("--train_shards=2", "--validation_shards=1", *ONE),
        ],
        (0, 3),
    ),
    "text_examples": (
        "pipelines.text_examples",
        lambda given, disk: [
            f"--documents={given['documents']}",
            f"--vocabulary={given['vocabulary']}",
            f"--output={disk}/texts/data",
            *("--shards=1", "--max_length=32", "--max_predictions=5", *ONE),
        ],
        (0, 2),
    ),
    "books": (
        "pipelines.books",
        lambda given, disk: [
            *(f"--folder={given['books']}", f"--output={disk}/books/data", "--shards=1", *ONE)
        ],
        (0, 1),
    ),
    "wikipedia": (
        "pipelines.wikipedia",
        lambda given, disk: [
            *(f"--dump={given['dump']}", f"--output={disk}/wiki/data", "--shards=1", *ONE)
        ],
        (0, 1),
    ),
    "sample": (
        "pipelines.sample",
        lambda given, disk: f"--cache_dir={disk}/cache --vocabulary_size=300 --duplication=1",
        (0, 20),
    ),
    "vocabulary": (
        "pipelines.vocabulary",
        lambda given, disk: [
            *(f"--documents={given['documents']}", f"--output={disk}/vocab.txt", "--size=100")
        ],
        (0,),
    ),
}
# Each of these takes some ten seconds and more.
LONG = ("finetune", "predict", "export", "sample")


@pytest.mark.parametrize(
    "name", [thorough(name) if name in LONG else slow(name) for name in COMMANDS]
)
def test_a_command(disk, inputs, capfd, name):
    """On a read-only disk, then on fuller and less full ones; at last there is room."""
    module, arguments, free = COMMANDS[name]
    main = importlib.import_module(module).main
    argv = arguments(inputs, disk.path)
    argv = argv.split() if isinstance(argv, str) else [str(argument) for argument in argv]
    for pages in (None, *free):
        disk.forbid() if pages is None else disk.leave(pages)
        capfd.readouterr()
        status = command_line.run(main, argv)
        *_, line = capfd.readouterr().err.splitlines()
        reason = "Read-only file system" if pages is None else "No space left on device"
        assert status == EXIT_BAD_INPUT, line
        assert line.startswith("error: ") and reason in line and str(disk.path) in line, line
        left = [path for path in disk.path.rglob("*") if ".tmp" in path.name or "/." in str(path)]
        assert not left, pages
        disk.allow()
    assert command_line.run(main, argv) == EXIT_DONE  # and goes on where there is room again
