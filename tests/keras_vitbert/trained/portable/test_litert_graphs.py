"""Graphs as LiteRT answers, beside transformers and the Keras model."""

import numpy as np
import pytest

from keras_vitbert.trained.portable.comparison import keras_logits, random_batches
from keras_vitbert.trained.portable.litert_graphs import open_graph, write_litert
from tests.keras_vitbert.trained.stored_models import expected, opened


def test_texts_as_transformers_answer(tmp_path):
    write_litert(opened("bert_classifier"), str(tmp_path))
    batch, logits = expected("bert_classifier")
    names = "token_ids", "segment_ids", "padding_mask"
    inputs = {name: np.asarray(batch[name], np.int32) for name in names}
    run = open_graph(str(tmp_path / "text.tflite"))
    for rows in (slice(3), slice(1)):  # one graph, batches of several sizes
        some = {name: value[rows] for name, value in inputs.items()}
        found = run(**some)["text_logits"]
        np.testing.assert_allclose(found, logits["text_logits"][rows], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_all_heads_in_int8(trained, tmp_path):
    write_litert(trained, str(tmp_path), int8=True)
    for head in trained.heads:
        run = open_graph(str(tmp_path / f"{head}.tflite"))
        for inputs in random_batches(trained, head):
            wanted = keras_logits(trained, head, inputs)
            assert np.abs(run(**inputs)[f"{head}_logits"] - wanted).max() < 0.3
