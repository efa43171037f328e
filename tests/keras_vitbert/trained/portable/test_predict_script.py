"""The written `predict.py`, in a process without TensorFlow, answers as `keras_vitbert.predict`."""

import re
import subprocess
import sys

import pytest

from tests.pipelines.image_fixtures import encoded, picture

RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras_vitbert", "pipelines"]))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TEXTS = {
    "text": ["The cats sat."],
    "pair": ["the cat", "sat"],
    "empty": ["", ""],
    "mask": ["[MASK] CAT[MASK]."],
    "masks_of_a_pair": ["the [MASK]", "[MASK]"],
}
LONG = (
    ["the cat sat on the cat ."],
    ["the cat sat on", "the cats"],
    ["the", "the cat sat on ."],
    ["the cat sat", "the cat sat"],
    ["the [MASK] sat on the cat"],
)


def run(folder, *words):
    words = (sys.executable, "-c", RUN, str(folder / "predict.py"), *map(str, words))
    return subprocess.run(words, capture_output=True, text=True)


def answers(line):
    return [(name, float(share)) for name, share in re.findall(r"(.+?) (\d\.\d{4})(?:  |$)", line)]


def check(done, expected):
    assert done.returncode == 0, done.stderr
    found = [answers(line) for line in done.stdout.rstrip("\n").split("\n")]
    for ours, theirs in zip(found, expected, strict=True):
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        shares = [share for _, share in theirs]
        assert [share for _, share in ours] == pytest.approx(shares, abs=2e-4)


@pytest.mark.slow
def test_it_answers_as_predict_does(portable, expected, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(picture(2, (50, 40))))
    check(run(portable, path, "--top_k=3"), expected(path))
    for first, *second in TEXTS.values():
        pair = [f"--text_pair={text}" for text in second]
        check(run(portable, f"--text={first}", *pair, "--top_k=3"), expected([first, *second]))
    for first, *second in LONG:
        done = run(portable, f"--text={first}", *(f"--text={text}" for text in second), "--top_k=3")
        check(done, expected([first, *second]))
        assert "the model takes 7" in done.stderr


@pytest.mark.slow
def test_what_it_refuses(portable, tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8\xffno")
    for words, culprit in (
        (["--text=the cat sat on the [MASK] ."], "[MASK]"),  # which is cut off
        ([tmp_path / "image.jpg"], "image.jpg"),
        ([tmp_path / "none.jpg"], "none.jpg"),
    ):
        done = run(portable, *words)
        assert done.returncode == 2 and culprit in done.stderr and done.stderr.count("\n") == 1
    for words in ([], [tmp_path / "image.jpg", "--text=the cat"], ["--text=the"] * 3):
        assert run(portable, *words).returncode == 2
