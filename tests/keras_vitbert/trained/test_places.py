import pytest

from keras_vitbert import convert, demo, figures, finetune
from keras_vitbert.trained.places import require_place


def test_paths_that_may_be_those_of_a_model(tmp_path):
    (tmp_path / "model.ckpt.index").touch()
    for path in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/model.ckpt"):
        require_place(path)
    for elsewhere in ("gs://bucket/run", "hf://owner/name", "kaggle://a/b/c", "a_preset", ""):
        require_place(elsewhere)


@pytest.mark.parametrize(
    ("command", "flag", "more"),
    [
        (finetune, "checkpoint", ["--task=rte"]),
        (convert, "checkpoint", ["--output_dir=x"]),
        (figures, "run", ["--output=x"]),
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
