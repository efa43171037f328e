import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines.cached_folder import default_cache_dir, find_or_build


def build(folder):
    with open(os.path.join(folder, "data"), "w") as stream:
        stream.write("whole")


def content(folder):
    with open(os.path.join(folder, "data")) as stream:
        return stream.read()


def test_built_once_and_found_again(tmp_path):
    folder = find_or_build("some", {"size": 1}, build, str(tmp_path))
    assert content(folder) == "whole"
    assert os.listdir(tmp_path) == [os.path.basename(folder)]
    assert os.path.basename(folder).startswith("some-")

    def never(folder):
        raise AssertionError("built twice")

    assert find_or_build("some", {"size": 1}, never, str(tmp_path)) == folder


def test_other_settings_have_another_folder(tmp_path):
    folders = {
        find_or_build("some", settings, build, str(tmp_path))
        for settings in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}, {"a": 1})
    }
    assert len(folders) == 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, error):
    def failing(folder):
        build(folder)
        raise error("half way")

    with pytest.raises(error):
        find_or_build("some", {}, failing, str(tmp_path))
    assert not os.listdir(tmp_path)
    assert content(find_or_build("some", {}, build, str(tmp_path))) == "whole"


def test_a_killed_run_leaves_no_folder_that_is_used(tmp_path):
    program = (
        "import os, signal\n"
        "from pipelines.cached_folder import find_or_build\n"
        "def build(folder):\n"
        "    open(os.path.join(folder, 'data'), 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"find_or_build('some', {{}}, build, {str(tmp_path)!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment)
    assert killed.returncode == -signal.SIGKILL
    (abandoned,) = os.listdir(tmp_path)

    folder = find_or_build("some", {}, build, str(tmp_path))
    assert content(folder) == "whole"
    # What was left is removed later, when it is certain that nobody writes there.
    assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(folder), abandoned])
    an_age_ago = time.time() - 7200
    os.utime(tmp_path / abandoned, (an_age_ago, an_age_ago))
    other = find_or_build("some", {"other": 1}, build, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(map(os.path.basename, (folder, other)))


def test_a_faster_process_wins(tmp_path):
    def overtaken(folder):
        faster = find_or_build("some", {}, build, str(tmp_path))
        with open(os.path.join(faster, "data"), "w") as stream:
            stream.write("of the faster one")

    folder = find_or_build("some", {}, overtaken, str(tmp_path))
    assert content(folder) == "of the faster one"
    assert os.listdir(tmp_path) == [os.path.basename(folder)]


def test_places_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        find_or_build("some", {}, build, str(tmp_path / "file"))
    with pytest.raises(ValueError, match="gs://bucket/cache.*local"):
        find_or_build("some", {}, build, "gs://bucket/cache")


def test_default_place(monkeypatch):
    monkeypatch.setenv("KERAS_VITBERT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache_dir() == "/a"
    monkeypatch.delenv("KERAS_VITBERT_CACHE")
    assert default_cache_dir() == "/b/keras_vitbert"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert os.path.expanduser(default_cache_dir()) == os.path.expanduser("~/.cache/keras_vitbert")
