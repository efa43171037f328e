"""The versions that a run records."""

import subprocess

import keras

from keras_vitbert.runs import versions


def test_all_that_computes_is_recorded(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    found = versions.versions()
    names = {"keras_vitbert", "commit", "python", "backend", "tensorflow", "keras", "keras_hub"}
    assert found.keys() >= names | {"tensorflow_text", "numpy", "TF_ENABLE_ONEDNN_OPTS"}
    assert found["keras"] == keras.__version__ and found["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        names = "-c", "user.name=x", "-c", "user.email=x"
        found = subprocess.run(
            ["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return found.stdout.strip()

    package = tmp_path / "keras_vitbert"
    package.mkdir()
    file, other = package / "versions.py", tmp_path / "notes"
    monkeypatch.setattr(versions, "__file__", str(file))
    commit = versions.commit.__wrapped__
    file.write_text("1")
    assert commit() == ""
    git("init")
    other.write_text("1")
    git("add", "notes")
    git("commit", "-m", "notes")
    assert commit() == ""  # an environment in a checkout of something else
    git("add", ".")
    git("commit", "-m", "package")
    head = git("rev-parse", "HEAD")
    assert commit() == head
    other.write_text("2")
    assert commit() == head
    file.write_text("2")
    assert commit() == f"{head}+"
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
