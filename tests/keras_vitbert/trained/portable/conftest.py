"""A tiny model with all heads, and its portable folder."""

import dataclasses

import pytest

HOSTILE = ['<img src=x onerror="document.title=1">', "</script><h1>été", "a  b\u2028{{policy}}"]


@pytest.fixture(scope="session")
def all_heads(make_trained):
    """A model of images, texts and masked tokens, with names of classes that a page may fear."""
    trained = make_trained("image", "mlm", "text")
    names = {"classes": HOSTILE, "text_classes": ["no", "yes"]}
    return dataclasses.replace(trained, network=trained.backbone, **names)


@pytest.fixture(scope="session")
def portable(all_heads, tmp_path_factory):
    """The folder of `all_heads` in ONNX; leave it as it is."""
    pytest.importorskip("tf2onnx", reason="needs tf2onnx")
    from keras_vitbert.trained.portable.folder import write_folder

    folder = tmp_path_factory.mktemp("portable") / "model"
    write_folder(all_heads, str(folder), "onnx")
    return folder


@pytest.fixture(scope="session")
def expected(all_heads):
    """`expected(value) -> answers` of `keras_vitbert.predict` to an image's path, or texts."""
    from keras_vitbert.trained.predicting import choose, image_items, predict, text_items
    from keras_vitbert.trained.served_model import ServedModel

    functions = ServedModel(all_heads, 3).functions

    def expected(value):
        items = text_items(*value) if isinstance(value, list) else list(image_items(str(value)))
        signature = choose(functions, items, "it")
        return predict(functions, signature, items, top_k=3)[0].answers

    return expected
