"""The source that a reader is given, and the small files that it reads."""

import pytest

from keras_vitbert.importing.sources import (
    HUGGING_FACE,
    PRESET,
    Source,
    read_json,
    read_text,
)


def test_presets_of_this_project_are_known_by_their_class():
    for name, is_own in (
        ("keras_vitbert>ViTBertMaskedLM", True),
        ("keras_hub>BertMaskedLM", False),
        *((name, False) for name in (None, 3, [])),
    ):
        assert Source(PRESET, "p", "p", {"registered_name": name}).is_own_preset == is_own
    assert not Source(HUGGING_FACE, "p", "p").is_own_preset


def test_small_files(tmp_path):
    path = tmp_path / "config.json"
    assert read_text(str(path), "m") is read_json(str(path), "m") is None
    path.write_text('{"a": [1, "é"]}')
    assert read_text(str(path), "m") == '{"a": [1, "é"]}'
    assert read_json(str(path), "m") == {"a": [1, "é"]}
    for content, reason in (
        (b"[1]", "is damaged .not a JSON object.; restore it"),
        (b'{"a":\n 1,', "is damaged .*; restore it"),
        (b"", "is damaged"),
        (b"[" * 100_000, "is damaged .it is nested too deeply.; restore it"),
        (b"\xff\xfe", "cannot be read .*; restore it"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^m: config\.json {reason}") as caught:
            read_json(str(path), "m")
        assert "\n" not in str(caught.value)
