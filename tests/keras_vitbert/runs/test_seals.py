"""Seals: a file that is not what was written is refused, whichever bit of it has changed."""

import csv
import json

import pytest

from keras_vitbert.runs import identity
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.seals import read_rows, sealed, sealed_rows, unsealed
from pipelines.text_tables import csv_text

CONTENT = {"steps": 10, "loss": 0.1 + 0.2, "nan": float("nan"), 3: [None, "é"], "deep": {"b": 1}}
ROWS = [{"step": 4, "loss": 1.5}, {"step": 8, "loss": 0.25, "val_loss": 1e-7}]


def each_flip(content):
    """Every content that differs in one bit."""
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)


def same(first, second):
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_no_flipped_bit_changes_what_json_says():
    known = json.loads(json.dumps(CONTENT))
    written = json.dumps(sealed(CONTENT), indent=2)
    assert same(unsealed(json.loads(written)), known)
    outcomes = {"refused": 0, "same": 0}
    for content in each_flip(written.encode()):
        try:
            found = unsealed(json.loads(content))
        except ValueError:
            outcomes["refused"] += 1
            continue
        # In the name of the seal: there is none then, and the rest is whole.
        rest = {name: value for name, value in found.items() if name in known}
        assert same(rest, known)
        outcomes["same"] += 1
    assert outcomes["refused"] > 0.8 * 8 * len(written.encode())


def test_no_flipped_bit_changes_what_a_log_says():
    known = [{name: str(value) for name, value in row.items()} for row in ROWS]
    known[0]["val_loss"] = ""  # which came later
    written = csv_text(sealed_rows(ROWS))
    assert read_rows(written) == known
    again = csv_text(sealed_rows(read_rows(written)))  # as a run writes it that goes on
    assert read_rows(again) == known
    for content in each_flip(written.encode()):
        try:
            rows = read_rows(content.decode())
        except (ValueError, csv.Error):
            continue
        assert [{name: row.get(name) for name in known[0]} for row in rows] == known


def test_a_row_may_name_the_images_of_a_large_batch():
    images = " ".join(f"train-00000-of-01024:{n}" for n in range(10_000))
    known = {"step": "4", "images": images}
    assert read_rows(csv_text(sealed_rows([known])), numbers=False) == [known]


def test_what_has_no_seal_is_of_an_older_version():
    assert unsealed({"a": 1}) == {"a": 1}
    assert read_rows("step,loss\n4,1.5\n") == [{"step": "4", "loss": "1.5"}]


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    for schema in (identity.SCHEMA + 1, 0, "3"):
        (tmp_path / "config.json").write_text(json.dumps({"schema": schema, "variant": "vit"}))
        with pytest.raises(ValueError, match=r"its schema is .*; this version knows those from 1"):
            RunFolder(str(tmp_path)).record()
