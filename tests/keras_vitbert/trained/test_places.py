import pytest

from keras_vitbert import convert, demo, finetune


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (finetune, ["--checkpoint=runs/none", "--task=rte"]),
        (convert, ["--checkpoint=runs/none", "--output_dir=x"]),
        (demo, ["--compare=runs/none", "--checkpoint=vitbert_small"]),
    ],
)
def test_a_path_of_nothing_is_refused_before_anything_is_loaded(command, argv, monkeypatch):
    for name in ("load_tensorflow", "quiet_loading"):
        monkeypatch.setattr(command, name, None, raising=False)  # a call fails
    with pytest.raises(ValueError, match="^runs/none: no such folder or file"):
        command.main(argv)
