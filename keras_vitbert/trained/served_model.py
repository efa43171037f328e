"""A trained model as graphs from raw bytes and strings to answers, for export and prediction.

The graphs decode and tokenize as in training, so serving needs nothing from this project. XLA
compiles none of them: batches and lengths vary with each request.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_vitbert.model.encoder_block import counted_over_all, starts_of
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.images.image_decoding import central_crop
from pipelines.text.tokenization import TextEncoder
from pipelines.text.wordpiece import MASK

# In this order: the first signature of a model is its default.
CLASSIFY_IMAGE, CLASSIFY_TEXT, FILL_MASK = "classify_image", "classify_text", "fill_mask"
EMBED_IMAGE, EMBED_TEXT = "embed_image", "embed_text"
SIGNATURES = (CLASSIFY_IMAGE, CLASSIFY_TEXT, FILL_MASK, EMBED_IMAGE, EMBED_TEXT)

Tensors = dict[str, tf.Tensor]  # by name

_IMAGES_AT_ONCE = 8  # decoded in parallel; the pixels of each are in memory


def input_name(signature: str) -> str:
    """The name of a signature's input: `image` or `text`."""
    return "image" if signature in (CLASSIFY_IMAGE, EMBED_IMAGE) else "text"


class ServedModel(tf.Module):
    """The graphs of a trained model, which name at most `top_k` classes or tokens.

    `functions` are those that the model has heads for, in the order of `SIGNATURES`. Each takes one
    string tensor and returns a dict of tensors with as many rows; numbers are float32:

    - `classify_image(image)`, encoded images `(batch,)`: `probabilities` `(batch, classes)`,
      `top_k_labels` and `top_k_probabilities` `(batch, k)`;
    - `classify_text(text)`, texts `(batch,)` or pairs of them `(batch, 2)`: the same;
    - `fill_mask(text)`, texts or pairs with one or more `[MASK]`: `tokens` and `scores`,
      probabilities, `(batch, masks, k)`; rows with fewer masks end in "" and 0;
    - `embed_image(image)`, `embed_text(text)`: `embedding` `(batch, D)`, the last state of the
      class token, and `mean_embedding` `(batch, D)`, the mean over all real tokens.

    A text that is too long is cut as in training. The functions raise
    `tf.errors.InvalidArgumentError` for damaged images and other files, and `fill_mask` for a text
    without `[MASK]` or with one that is cut off.
    """

    def __init__(self, trained: TrainedModel, top_k: int = 5):
        super().__init__(name="served_model")
        self._trained = trained
        self._vocabulary = trained.vocabulary or []
        self._top_k = top_k
        backbone, heads = trained.backbone, trained.heads
        layers = [backbone, *heads.values()]
        # Only variables are saved: a server has no use for the layers' own functions.
        self.model_variables = [v.value for layer in layers for v in layer.weights]
        answers = {}
        if backbone.image_size is not None:
            answers[EMBED_IMAGE] = lambda image: _embeddings(*self._image_sequence(image))
            if "image" in heads:
                answers[CLASSIFY_IMAGE] = lambda image: self._classes(
                    "image", self._image_sequence, image
                )
        if backbone.vocabulary_size is not None and trained.vocabulary is not None:
            length = backbone.max_sequence_length
            self._encode = TextEncoder(trained.vocabulary, length, trained.lower_case)
            answers[EMBED_TEXT] = lambda text: _embeddings(*self._text_sequence(text))
            if "text" in heads:
                answers[CLASSIFY_TEXT] = lambda text: self._classes(
                    "text", self._text_sequence, text
                )
            if "mlm" in heads:
                answers[FILL_MASK] = self._masked_tokens
        self.functions = {
            name: _function(answers[name], name) for name in SIGNATURES if name in answers
        }

    def _image_sequence(
        self, encoded: tf.Tensor, positions: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps encoded images to the backbone's sequence and a mask of its real tokens: all are."""
        size = self._trained.backbone.image_size
        images = tf.map_fn(
            lambda image: central_crop(image, size, self._trained.central_crop),
            encoded,
            parallel_iterations=_IMAGES_AT_ONCE,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        inputs = image_inputs({"images": images})
        outputs = self._trained.backbone(inputs, training=False, image_positions=positions)
        sequence = outputs["image_sequence"]
        return sequence, tf.ones(tf.shape(sequence)[:2], tf.int32)

    def _text_sequence(
        self, texts: tf.Tensor, positions: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps texts or pairs to the backbone's sequence and a mask of its real tokens."""
        inputs = self._text_inputs(_columns(texts))
        outputs = self._trained.backbone(inputs, training=False, text_positions=positions)
        return outputs["text_sequence"], inputs["padding_mask"]

    def _text_inputs(self, columns: tf.Tensor, masks: bool = False) -> Tensors:
        """The backbone's inputs for `(batch, 1 or 2)` texts; `masks` as in `TextEncoder`."""
        is_pair = tf.equal(tf.shape(columns)[1], 2)
        encode: Any = self._encode
        inputs = encode(columns[:, 0], columns[:, -1], is_pair, masks)
        return {name: _at_least_a_column(x) for name, x in inputs.items()}

    def _classes(self, modality: str, encode: Callable, examples: tf.Tensor) -> Tensors:
        """The probabilities of all classes, and the names of the likeliest."""
        head, classes = self._trained.heads[modality], self._trained.classes_of(modality)
        sequence, _ = encode(examples, head.tokens)
        labels = tf.constant(classes or [str(number) for number in range(head.num_classes)])
        probabilities = tf.nn.softmax(head.of_sequence(sequence, training=False))
        top = tf.math.top_k(probabilities, min(self._top_k, head.num_classes))
        return {
            "probabilities": probabilities,
            "top_k_labels": tf.gather(labels, top.indices),
            "top_k_probabilities": top.values,
        }

    def _masked_tokens(self, text: tf.Tensor) -> Tensors:
        """The likeliest tokens at each `[MASK]`."""
        vocabulary = self._vocabulary
        columns = _columns(text)
        inputs = self._text_inputs(columns, masks=True)
        is_mask = tf.equal(inputs["token_ids"], self._encode.mask_id)
        counts = tf.reduce_sum(tf.cast(is_mask, tf.int64), axis=1)
        joined = tf.strings.reduce_join(columns, axis=1, separator=" ")
        given = tf.strings.split(joined, MASK).row_lengths() - 1
        length = self._trained.backbone.max_sequence_length
        checks = [
            _require_all(given > 0, f"has no {MASK}"),
            _require_all(counts == given, f"has a {MASK} beyond the {length} tokens of the model"),
        ]
        with tf.control_dependencies(checks):
            places = tf.where(is_mask)
        ragged: Any = tf.RaggedTensor  # whose stubs lack some methods
        positions = ragged.from_row_lengths(places[:, 1], counts, validate=False)
        positions = _at_least_a_column(positions.to_tensor())
        is_there = tf.sequence_mask(counts, tf.shape(positions)[1])[:, :, None]
        places = counted_over_all(positions, starts_of(inputs["token_ids"]))
        outputs = self._trained.backbone(inputs, training=False, text_positions=places)
        logits = self._trained.heads["mlm"](outputs["text_sequence"], training=False)
        # A model may have room for more tokens than its vocabulary has.
        count = min(self._top_k, len(vocabulary))
        top = tf.math.top_k(logits[:, :, : len(vocabulary)], count)
        scores = tf.exp(top.values - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        return {
            "tokens": tf.where(is_there, tf.gather(tf.constant(vocabulary), top.indices), ""),
            "scores": tf.where(is_there, scores, 0.0),
        }


def _function(function: Callable[[tf.Tensor], Tensors], signature: str) -> Callable:
    """A `tf.function` whose only argument has the name and type of the signature's input."""
    name = input_name(signature)
    # A text or a pair of texts: any shape.
    shape: Any = (None,) if name == "image" else None
    spec = tf.TensorSpec(shape, tf.string, name)
    return tf.function(function, input_signature=[spec], autograph=False)


def _columns(texts: tf.Tensor) -> tf.Tensor:
    """Texts `(batch,)` or pairs `(batch, 2)` as `(batch, 1)` or `(batch, 2)`."""
    count = tf.reduce_prod(tf.shape(texts)[1:])
    is_right = (1 <= count) & (count <= 2)
    check = tf.debugging.Assert(is_right, ["a text is one string or a pair"])
    with tf.control_dependencies([check]):
        return tf.reshape(texts, (-1, count))


def _at_least_a_column(table: tf.Tensor) -> tf.Tensor:
    """Pads an empty batch of texts, which has no tokens, to the one token that layers expect."""
    paddings: Any = [[0, 0], [0, tf.maximum(1 - tf.shape(table)[1], 0)]]
    return tf.pad(table, paddings)


def _require_all(is_right: tf.Tensor, complaint: str) -> tf.Operation:
    """An assertion that names the first wrong text, counted from 0."""
    wrong = tf.strings.as_string(tf.where(tf.logical_not(is_right))[:1, 0])
    message = tf.strings.join(["text ", tf.strings.reduce_join(wrong), f" {complaint}"])
    return tf.debugging.Assert(tf.reduce_all(is_right), [message])


def _embeddings(sequence: tf.Tensor, is_real: tf.Tensor) -> Tensors:
    sequence = tf.cast(sequence, tf.float32)
    weights = tf.cast(is_real, tf.float32)[:, :, None]
    return {
        "embedding": sequence[:, 0],
        "mean_embedding": tf.reduce_sum(sequence * weights, 1) / tf.reduce_sum(weights, 1),
    }
