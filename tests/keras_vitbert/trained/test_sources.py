"""The source that a reader is given, and the small files that it reads."""

import pytest

from keras_vitbert.trained.sources import HUGGING_FACE, PRESET, Source, read_json


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
    assert read_json(str(path)) is None
    path.write_text('{"a": [1, "é"]}')
    assert read_json(str(path)) == {"a": [1, "é"]}
    for content in (b"[1]", b'{"a":\n 1,', b"", b"[" * 100_000, b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: .") as caught:
            read_json(str(path))
        assert "\n" not in str(caught.value)
