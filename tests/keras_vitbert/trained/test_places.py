import pytest

from keras_vitbert import convert, demo, finetune


@pytest.mark.parametrize(
    ("command", "flag", "more"),
    [
        (finetune, "checkpoint", ["--task=rte"]),
        (convert, "checkpoint", ["--output_dir=x"]),
        (demo, "compare", ["--checkpoint=vitbert_small"]),
    ],
)
def test_a_path_of_nothing_is_refused_before_anything_is_loaded(
    command, flag, more, monkeypatch, tmp_path
):
    for name in ("load_tensorflow", "quiet_loading"):
        load = lambda: pytest.fail("it is loaded")  # noqa: E731
        monkeypatch.setattr(command, name, load, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^runs/none: no such folder or file"):
        command.main([f"--{flag}=runs/none", *more])
    assert not list(tmp_path.iterdir())
