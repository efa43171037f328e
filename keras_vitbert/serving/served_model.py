"""A trained model as graphs from raw bytes and strings to answers: what is exported and predicted.

Decoding and tokenization are those of training and in the graph, so that who serves the model needs
nothing of this project. Nothing is compiled by XLA: batches and lengths vary with each request.
"""

import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs
from pipelines.images.image_decoding import central_crop
from pipelines.text.text_encoding import TextEncoder
from pipelines.text.wordpiece import MASK

# In this order: the first that a model has is its default.
CLASSIFY_IMAGE, CLASSIFY_TEXT, FILL_MASK = "classify_image", "classify_text", "fill_mask"
EMBED_IMAGE, EMBED_TEXT = "embed_image", "embed_text"
SIGNATURES = (CLASSIFY_IMAGE, CLASSIFY_TEXT, FILL_MASK, EMBED_IMAGE, EMBED_TEXT)

_IMAGES_AT_ONCE = 8  # decoded beside each other; the pixels of each wait in memory


def input_name(signature):
    """What the input of a signature is called, `image` or `text`."""
    return "image" if signature in (CLASSIFY_IMAGE, EMBED_IMAGE) else "text"


class ServedModel(tf.Module):
    """The graphs of a trained model.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.
        top_k: int, how many classes or tokens are named, where there are as many.

    Attributes:
        functions: dict of a name to a `tf.function`, those that the model has heads for, in the
            order of `SIGNATURES`. Each takes one string tensor and returns a dict of tensors, of
            as many rows; numbers are float32:

            - `classify_image(image)`, encoded images `(batch,)`: `probabilities`
              `(batch, classes)`, `top_k_labels` and `top_k_probabilities` `(batch, k)`;
            - `classify_text(text)`, texts `(batch,)` or pairs of them `(batch, 2)`: the same;
            - `fill_mask(text)`, texts or pairs with one or more `[MASK]`: `tokens` and `scores`,
              probabilities, `(batch, masks, k)`; rows with fewer masks end in "" and 0;
            - `embed_image(image)`, `embed_text(text)`: `embedding` `(batch, D)`, the class token's
              last, and `mean_embedding` `(batch, D)`, the mean over all real tokens.

    A text that is too long is cut as in training. `tf.errors.InvalidArgumentError` is raised for
    what is no image or cut short, and for a text without `[MASK]` or with one that is cut off.
    """

    def __init__(self, trained, top_k=5):
        super().__init__(name="served_model")
        backbone, heads = trained.backbone, trained.heads
        layers = [backbone, *heads.values()]
        # Only variables are saved: the layers' own functions are of no use to a server.
        self.model_variables = [v.value for layer in layers for v in layer.weights]
        classify = {
            name: _Classifier(heads[name], trained.classes, top_k)
            for name in ("image", "text")
            if name in heads
        }
        made = {}
        if backbone.image_size is not None:
            images = _ImageEncoder(backbone, trained.central_crop)
            made[EMBED_IMAGE] = lambda image: _embeddings(*images(image))
            if "image" in heads:
                made[CLASSIFY_IMAGE] = lambda image: classify["image"](images(image)[0])
        if backbone.vocabulary_size is not None and trained.vocabulary is not None:
            texts = _TextEncoder(backbone, trained.vocabulary, trained.lower_case)
            made[EMBED_TEXT] = lambda text: _embeddings(*texts(text))
            if "text" in heads:
                made[CLASSIFY_TEXT] = lambda text: classify["text"](texts(text)[0])
            if "mlm" in heads:
                made[FILL_MASK] = _MaskFiller(texts, heads["mlm"], top_k)
        self.functions = {name: _function(made[name], name) for name in SIGNATURES if name in made}


def _function(function, signature):
    """A `tf.function` whose only argument has the name and the kind of the signature's."""
    name = input_name(signature)
    # A text or a pair of texts: their shapes have nothing in common.
    spec = tf.TensorSpec((None,) if name == "image" else None, tf.string, name)
    return tf.function(function, input_signature=[spec], autograph=False)


class _ImageEncoder:
    """Encoded images to the backbone's sequences."""

    def __init__(self, backbone, fraction):
        self._backbone = backbone
        self._fraction = fraction

    def __call__(self, encoded):
        size = self._backbone.image_size
        images = tf.map_fn(
            lambda image: central_crop(image, size, self._fraction),
            encoded,
            parallel_iterations=_IMAGES_AT_ONCE,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        inputs = image_inputs({"images": images})
        sequence = self._backbone(inputs, training=False)["image_sequence"]
        return sequence, tf.ones(tf.shape(sequence)[:2], tf.int32)


class _TextEncoder:
    """Texts, or pairs of them, to the backbone's sequences."""

    def __init__(self, backbone, vocabulary, lower_case):
        self._backbone = backbone
        self._encode = TextEncoder(vocabulary, backbone.max_sequence_length, lower_case)
        self.vocabulary = vocabulary
        self.mask_id = self._encode.mask_id
        self.max_length = backbone.max_sequence_length

    def __call__(self, texts):
        return self.sequence(self.inputs(self.columns(texts)))

    def columns(self, texts):
        """`(batch, 1)` or `(batch, 2)` of texts of the one or the other form."""
        count = tf.reduce_prod(tf.shape(texts)[1:])
        with tf.control_dependencies(
            [tf.debugging.Assert((1 <= count) & (count <= 2), ["a text is one string or a pair"])]
        ):
            return tf.reshape(texts, (-1, count))

    def inputs(self, columns, masks=False):
        """The backbone's inputs; `masks` as in `TextEncoder.tokenize`."""
        is_pair = tf.equal(tf.shape(columns)[1], 2)
        inputs = self._encode(columns[:, 0], columns[:, -1], is_pair, masks)
        return {name: _at_least_a_column(x) for name, x in inputs.items()}

    def sequence(self, inputs):
        """The backbone's sequence, and which of its tokens are real."""
        return self._backbone(inputs, training=False)["text_sequence"], inputs["padding_mask"]


class _Classifier:
    """Sequences to probabilities, and to the names of the likeliest classes."""

    def __init__(self, head, classes, top_k):
        self._head = head
        self._labels = tf.constant(classes or [str(number) for number in range(head.num_classes)])
        self._top_k = min(top_k, head.num_classes)

    def __call__(self, sequence):
        probabilities = tf.nn.softmax(self._head(sequence[:, 0], training=False))
        top = tf.math.top_k(probabilities, self._top_k)
        return {
            "probabilities": probabilities,
            "top_k_labels": tf.gather(self._labels, top.indices),
            "top_k_probabilities": top.values,
        }


class _MaskFiller:
    """Texts with `[MASK]` to the likeliest tokens there."""

    def __init__(self, texts, head, top_k):
        self._texts = texts
        self._head = head
        self._tokens = tf.constant(texts.vocabulary)
        self._top_k = min(top_k, len(texts.vocabulary))

    def __call__(self, text):
        columns = self._texts.columns(text)
        inputs = self._texts.inputs(columns, masks=True)
        is_mask = tf.equal(inputs["token_ids"], self._texts.mask_id)
        counts = tf.reduce_sum(tf.cast(is_mask, tf.int64), axis=1)
        with tf.control_dependencies(self._checks(columns, counts)):
            places = tf.where(is_mask)
        positions = tf.RaggedTensor.from_row_lengths(places[:, 1], counts, validate=False)
        positions = _at_least_a_column(positions.to_tensor())
        is_there = tf.sequence_mask(counts, tf.shape(positions)[1])[:, :, None]
        sequence, _ = self._texts.sequence(inputs)
        logits = self._head(sequence, positions, training=False)
        # A model may have room for more tokens than its vocabulary has.
        top = tf.math.top_k(logits[:, :, : len(self._texts.vocabulary)], self._top_k)
        scores = tf.exp(top.values - tf.reduce_logsumexp(logits, axis=-1, keepdims=True))
        return {
            "tokens": tf.where(is_there, tf.gather(self._tokens, top.indices), ""),
            "scores": tf.where(is_there, scores, 0.0),
        }

    def _checks(self, columns, counts):
        """Assertions that each text has a mask, and that none was cut off."""
        joined = tf.strings.reduce_join(columns, axis=1, separator=" ")
        given = tf.strings.split(joined, MASK).row_lengths() - 1
        length = self._texts.max_length
        return [
            _require_all(given > 0, f"has no {MASK}"),
            _require_all(counts == given, f"has a {MASK} beyond the {length} tokens of the model"),
        ]


def _at_least_a_column(table):
    """A batch of no texts is no tokens long; the layers look at the first token all the same."""
    return tf.pad(table, [[0, 0], [0, tf.maximum(1 - tf.shape(table)[1], 0)]])


def _require_all(is_right, complaint):
    """An assertion that names the first text that is wrong, counted from 0."""
    wrong = tf.strings.as_string(tf.where(~is_right)[:1, 0])
    message = tf.strings.join(["text ", tf.strings.reduce_join(wrong), f" {complaint}"])
    return tf.debugging.Assert(tf.reduce_all(is_right), [message])


def _embeddings(sequence, is_real):
    sequence = tf.cast(sequence, tf.float32)
    weights = tf.cast(is_real, tf.float32)[:, :, None]
    return {
        "embedding": sequence[:, 0],
        "mean_embedding": tf.reduce_sum(sequence * weights, 1) / tf.reduce_sum(weights, 1),
    }
