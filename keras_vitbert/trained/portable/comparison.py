"""Compares an exported graph with the Keras model that it comes from."""

from collections.abc import Callable, Iterator

import numpy as np

from keras_vitbert.trained.trained_model import TrainedModel

TOLERANCE = 1e-4  # of logits; of the largest one where that is more than 1
INT8_TOLERANCE = 0.3  # of the differences' root mean square, in standard deviations of the logits

Arrays = dict[str, np.ndarray]  # by their names


def compare(
    trained: TrainedModel, head: str, answer: Callable[[Arrays], np.ndarray], int8: bool
) -> None:
    """Compares the logits of a head on two batches of random examples, texts also padded.

    Raises:
        ValueError: they differ by more than the tolerances above.
    """
    for inputs in random_batches(trained, head):
        expected = keras_logits(trained, head, inputs)
        difference = answer(inputs) - expected
        if int8:
            furthest, limit = np.sqrt(np.mean(difference**2)), INT8_TOLERANCE * np.std(expected)
        else:
            furthest, limit = abs(difference).max(), TOLERANCE * max(1, abs(expected).max())
        if not furthest <= limit:
            raise ValueError(
                f"{head}: the exported graph's logits differ by {furthest:.3g} from the model's, "
                f"more than {limit:.3g}"
            )


def keras_logits(trained: TrainedModel, head: str, inputs: Arrays) -> np.ndarray:
    """The logits of the Keras model itself."""
    [sequence] = trained.backbone(inputs, training=False).values()
    layer = trained.heads[head]
    call = layer if head == "mlm" else layer.of_sequence
    return np.asarray(call(sequence, training=False))


def random_batches(trained: TrainedModel, head: str) -> Iterator[Arrays]:
    """A batch of one, then one of two; texts have two lengths, and the last one is padded."""
    backbone, rng = trained.backbone, np.random.default_rng(0)
    for batch in (1, 2):
        if head == "image":
            shape = (batch, backbone.image_size, backbone.image_size, 3)
            yield {"images": rng.integers(0, 256, shape, np.uint8)}
            continue
        longest = backbone.max_sequence_length
        shape = (batch, longest if batch == 1 else (longest + 1) // 2)
        lengths = np.arange(batch, 0, -1)[:, None] * shape[1] // batch
        yield {
            "token_ids": rng.integers(0, backbone.vocabulary_size, shape, np.int32),
            "segment_ids": rng.integers(0, max(backbone.num_segments, 1), shape, np.int32),
            "padding_mask": (np.arange(shape[1]) < lengths).astype(np.int32),
        }
