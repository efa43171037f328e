"""The model as keras-hub tasks with preprocessors, and their presets.

| task | takes | returns |
| --- | --- | --- |
| `ViTBertImageClassifier` | images of any size, integers 0 to 255 or floats 0 to 1 | class logits |
| `ViTBertTextClassifier` | strings, or pairs of them | class logits |
| `ViTBertMaskedLM` | strings, and masks some tokens | logits of the masked tokens |

Load a task with `from_preset`, or any of them with `keras_vitbert.load`. Write it with
`save_to_preset`, and upload it with `keras_hub.upload_preset`. `import keras_vitbert.trained.hub`
registers the classes with Keras, so that `keras_hub.models.ImageClassifier.from_preset` and the
like find them.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.backbone_inputs import WRONG_INTEGERS, WRONG_SCALE
from keras_vitbert.model.heads import class_head, masked_lm_head
from keras_vitbert.trained.finding import read_json
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.command_line import one_line
from pipelines.digests import check_sums
from pipelines.images.image_decoding import central_view
from pipelines.text.tokenization import TextEncoder
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTokenizer(keras_hub.tokenizers.WordPieceTokenizer):
    """The tokenizer of training as a keras-hub tokenizer.

    keras-hub's own WordPiece splits words by other rules, so some texts would get other tokens than
    in training. Call it on a string or a batch of strings; it returns token ids, without `[CLS]`
    and `[SEP]`. They are dense if `sequence_length` is set; otherwise ragged, or lists outside of a
    `tf.function`.

    Args:
        vocabulary: tokens, or the path of a `vocab.txt`.
        lowercase: also strips accents.
        special_tokens_in_strings: whether `[MASK]` in a string is that token.
    """

    backbone_cls = ViTBertBackbone

    def __init__(
        self, vocabulary: list[str] | str | None = None, lowercase: bool = True, **kwargs: Any
    ):
        named = {"cls": CLS, "sep": SEP, "pad": PAD, "mask": MASK, "start": CLS, "end": SEP}
        for name, token in named.items():
            self._add_special_token(token, f"{name}_token")
        kwargs["strip_accents"] = lowercase
        super().__init__(vocabulary=vocabulary, lowercase=lowercase, **kwargs)

    def set_vocabulary(self, vocabulary: list[str] | str | None) -> None:
        self._encoder = None
        super().set_vocabulary(vocabulary)

    def tokenize(self, inputs: Any) -> Any:
        self._check_vocabulary()
        if self._encoder is None:
            with tf.init_scope():  # the first call may be in a graph
                vocabulary: Any = self.vocabulary
                self._encoder = TextEncoder(vocabulary, 0, self.lowercase)
        with tf.device("cpu"):
            tokens = self._tokens(self._encoder, tf.convert_to_tensor(inputs))
        if tf.inside_function():
            return tokens
        if self.sequence_length:
            return tokens.numpy()
        is_batch = isinstance(tokens, tf.RaggedTensor)
        return _decode(tokens.to_list() if is_batch else tokens.numpy().tolist())

    def _tokens(self, encoder: TextEncoder, texts: tf.Tensor) -> Any:
        """Tokens, ragged or dense if the length is fixed; with a batch axis if texts have one."""
        tokens = encoder.tokenize(tf.reshape(texts, (-1,)), self.special_tokens_in_strings)
        if self.compute_dtype == "string":
            tokens = tokens.with_values(tf.gather(self.vocabulary, tokens.values))
        if self.sequence_length:
            tokens = tokens.to_tensor(shape=(None, self.sequence_length))
        return tf.ensure_shape(tokens[0], (self.sequence_length,)) if texts.ndim == 0 else tokens


def _decode(tokens: Any) -> Any:
    """Bytes as str, in nested lists."""
    if isinstance(tokens, list):
        return [_decode(token) for token in tokens]
    return tokens.decode() if isinstance(tokens, bytes) else tokens


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageConverter(keras_hub.layers.ImageConverter):
    """The central square of images, resized as in validation and scaled to [0, 1].

    Call it on an image `(height, width, 3)`, a batch, or a list of images of several sizes:
    integers in 0 to 255 or floats in [0, 1], as everywhere in this project. It returns float32 in
    [0, 1], a NumPy array outside of a `tf.function`.

    Args:
        image_size: a pair of equal numbers of pixels.
        central_crop: the fraction of the shorter side that is kept.

    Raises:
        tf.errors.InvalidArgumentError: integers are outside 0 to 255, or floats outside [0, 1].
    """

    backbone_cls = ViTBertBackbone

    def __init__(
        self, image_size: Sequence[int] | None = None, central_crop: float = 0.875, **kwargs: Any
    ):
        kwargs["scale"] = 1 / 255
        super().__init__(image_size=image_size, **kwargs)
        self.central_crop = central_crop

    def call(self, inputs: Any) -> Any:
        if isinstance(inputs, list | tuple) and len({np.shape(image) for image in inputs}) > 1:
            return np.stack([self.call(image) for image in inputs])
        with tf.device("cpu"):
            images = _as_bytes(tf.convert_to_tensor(inputs))
            size: Any = self.image_size
            scale: Any = self.scale
            view = central_view(images, size[0], self.central_crop)
            view = tf.cast(view, tf.float32) * scale
        return view if tf.inside_function() else view.numpy()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "central_crop": self.central_crop}


def _as_bytes(images: tf.Tensor) -> tf.Tensor:
    """Images in 0 to 255, from either scale."""
    if images.dtype == tf.uint8:
        return images
    is_integer = images.dtype.is_integer
    if is_integer:
        images = tf.cast(images, tf.int64)  # in which 255 has a place
    most, complaint = (255, WRONG_INTEGERS) if is_integer else (1, WRONG_SCALE)
    is_right = (tf.reduce_min(images) >= 0) & (tf.reduce_max(images) <= most)
    with tf.control_dependencies([tf.debugging.Assert(is_right, [f"images: {complaint}"])]):
        return tf.cast(images, tf.uint8) if is_integer else images * 255


class _NamedClasses(keras_hub.models.Preprocessor):
    """Keeps the class names, in the order of the logits."""

    def __init__(self, *args: Any, class_names: list[str] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.class_names = class_names

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_names": self.class_names}


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageClassifierPreprocessor(
    _NamedClasses, keras_hub.models.ImageClassifierPreprocessor
):
    """keras-hub's preprocessor with a `ViTBertImageConverter`, and `class_names` or None."""

    backbone_cls = ViTBertBackbone
    image_converter_cls = ViTBertImageConverter


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTextClassifierPreprocessor(_NamedClasses, keras_hub.models.TextClassifierPreprocessor):
    """keras-hub's preprocessor with a `ViTBertTokenizer`, and `class_names` or None.

    It pads to `sequence_length` tokens, and cuts the longer text of a pair first, as in training.
    """

    backbone_cls = ViTBertBackbone
    tokenizer_cls = ViTBertTokenizer


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertMaskedLMPreprocessor(keras_hub.models.MaskedLMPreprocessor):
    """keras-hub's preprocessor with a `ViTBertTokenizer`: masks 15 % of the tokens of strings."""

    backbone_cls = ViTBertBackbone
    tokenizer_cls = ViTBertTokenizer


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertImageClassifier(keras_hub.models.ImageClassifier):
    """The backbone with a head on the class token of an image, by default the paper's (eq. 5, 6).

    It returns logits `(batch, num_classes)` in float32.

    Args:
        backbone: has an image side.
        num_classes: `C`.
        preprocessor: takes images of any size; None for floats
            `(batch, image_size, image_size, 3)` in [0, 1].
        head_kind: of `keras_vitbert.model.heads.CLASS_HEADS`.

    Example:

    ```python
    classifier = ViTBertImageClassifier.from_preset("presets/imagenet")
    logits = classifier.predict(images)  # (batch, height, width, 3), uint8 or floats in [0, 1]
    names = classifier.preprocessor.class_names
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertImageClassifierPreprocessor

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: int,
        preprocessor: ViTBertImageClassifierPreprocessor | None = None,
        head_kind: Any = "paper",
        **kwargs: Any,
    ):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = class_head(head_kind, num_classes, backbone, "head")
        inputs: Any = backbone.input
        images = inputs["images"]
        sequences = backbone({"images": images}, image_positions=self.head.tokens)
        logits = self.head.of_sequence(sequences["image_sequence"])
        # keras-hub's own constructor would pool over the area of images.
        keras_hub.models.Task.__init__(self, inputs=images, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.head_kind = head_kind
        self.activation = None  # so that `compile` knows that these are logits

    def get_config(self) -> dict[str, Any]:
        return _task_config(self, num_classes=self.num_classes, head_kind=self.head_kind)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTextClassifier(keras_hub.models.TextClassifier):
    """The backbone with a head on the class token of a text, by default the paper's (eq. 5, 6).

    It returns logits `(batch, num_classes)` in float32.

    Args:
        backbone: has a text side.
        num_classes: `C`.
        preprocessor: takes strings; None for a dict of `token_ids`, `segment_ids` and
            `padding_mask`, each `(batch, length)`.
        head_kind: of `keras_vitbert.model.heads.CLASS_HEADS`.

    Example:

    ```python
    classifier = ViTBertTextClassifier.from_preset("presets/rte")
    classifier.predict((["It rains.", "It rains."], ["It is wet.", "It is dry."]))
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertTextClassifierPreprocessor

    def __init__(
        self,
        backbone: ViTBertBackbone,
        num_classes: int,
        preprocessor: ViTBertTextClassifierPreprocessor | None = None,
        head_kind: Any = "paper",
        **kwargs: Any,
    ):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.head = class_head(head_kind, num_classes, backbone, "head")
        inputs: Any = backbone.input
        inputs = {name: x for name, x in inputs.items() if name != "images"}
        sequences = backbone(inputs, text_positions=self.head.tokens)
        logits = self.head.of_sequence(sequences["text_sequence"])
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.head_kind = head_kind

    def get_config(self) -> dict[str, Any]:
        return _task_config(self, num_classes=self.num_classes, head_kind=self.head_kind)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertMaskedLM(keras_hub.models.MaskedLM):
    """The backbone with a head on the masked tokens of a text, by default the paper's (eq. 5, 6).

    It returns logits `(batch, predictions, vocabulary_size)` in float32.

    Args:
        backbone: has a text side.
        preprocessor: takes strings; None for a dict of `token_ids`, `segment_ids`, `padding_mask`
            `(batch, length)` and `mask_positions` `(batch, predictions)`.
        head_kind: of `keras_vitbert.model.heads.MASKED_LM_HEADS`.

    Example:

    ```python
    model = ViTBertMaskedLM.from_preset("presets/text")
    model.fit(["The first text.", "The second text."])  # continues training, with new masks
    ```
    """

    backbone_cls = ViTBertBackbone
    preprocessor_cls = ViTBertMaskedLMPreprocessor

    def __init__(
        self,
        backbone: ViTBertBackbone,
        preprocessor: ViTBertMaskedLMPreprocessor | None = None,
        head_kind: Any = "paper",
        **kwargs: Any,
    ):
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.mlm_head = masked_lm_head(head_kind, backbone, "mlm_head")
        positions = keras.Input((None,), dtype="int32", name="mask_positions")
        inputs: Any = backbone.input
        inputs = {name: x for name, x in inputs.items() if name != "images"}
        logits = self.mlm_head(backbone(inputs)["text_sequence"], positions)
        super().__init__(inputs={**inputs, "mask_positions": positions}, outputs=logits, **kwargs)
        self.head_kind = head_kind

    def get_config(self) -> dict[str, Any]:
        return _task_config(self, head_kind=self.head_kind)


def _task_config(task: keras_hub.models.Task, **arguments: Any) -> dict[str, Any]:
    """The config of a task: what is common to all of keras-hub's, and further arguments."""
    return {**keras_hub.models.Task.get_config(task), **arguments}


HEADS = {"image_classifier": "image", "text_classifier": "text", "masked_lm": "mlm"}


def load_preset(path: str) -> Any:
    """The task of a preset of this project, or its backbone if it holds no task."""
    check_sums(path)
    try:
        about = read_json(os.path.join(path, "task.json"))  # the preset of a backbone has none
        about = about or read_json(os.path.join(path, "config.json")) or {}
        task: Any = keras.saving.get_registered_object(about["registered_name"])
        return task.from_preset(path)
    # Missing, truncated and unexpected files raise many kinds of errors.
    except Exception as error:
        raise ValueError(
            f"{path}: the preset cannot be loaded ({one_line(error)[:300]})"
        ) from error


def available_kinds(trained: TrainedModel) -> list[str]:
    """The kinds of preset that a model can be written as: a task for each head, and `backbone`."""
    return [*(kind for kind, head in HEADS.items() if head in trained.heads), "backbone"]


def build_task(trained: TrainedModel, kind: str) -> Any:
    """A trained model as the task or backbone of one of its `available_kinds`, sharing weights."""
    backbone = trained.backbone
    if kind == "backbone":
        return backbone
    head, length = trained.heads[HEADS[kind]], backbone.max_sequence_length
    if kind == "image_classifier":
        converter = ViTBertImageConverter((backbone.image_size,) * 2, trained.central_crop)
        preprocessor = ViTBertImageClassifierPreprocessor(
            converter, class_names=trained.classes_of("image")
        )
        task = ViTBertImageClassifier(backbone, head.num_classes, preprocessor, head.kind)
    else:
        tokenizer = ViTBertTokenizer(trained.vocabulary, trained.lower_case)
        if kind == "masked_lm":
            preprocessor = ViTBertMaskedLMPreprocessor(tokenizer, length)
            task = ViTBertMaskedLM(backbone, preprocessor, head.kind)
        else:
            preprocessor = ViTBertTextClassifierPreprocessor(
                tokenizer, length, class_names=trained.classes_of("text")
            )
            task = ViTBertTextClassifier(backbone, head.num_classes, preprocessor, head.kind)
    (task.mlm_head if kind == "masked_lm" else task.head).set_weights(head.get_weights())
    return task
