"""What a trained model answers to an image or a text, and what its blocks do meanwhile."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.attention import look_inside
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.trained.predicting import Item, choose, predict
from keras_vitbert.trained.served_model import (
    CLASSIFY_IMAGE,
    CLASSIFY_TEXT,
    FILL_MASK,
    ServedModel,
)
from pipelines.images.image_decoding import central_crop
from pipelines.text.tokenization import TextEncoder
from pipelines.text.wordpiece import MASK

TOP = 5  # classes or tokens that are shown
_KEPT = 4  # answers that are kept, so that looking at another block asks nothing again


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A model's answers to one input, and what its blocks do.

    Attributes:
        answers: dict of a title, such as `mask 1`, to a list of (name, probability), the likeliest
            first; empty where the model predicts nothing.
        notes: list of str, what the reader should know.
        rows: list of str, the tokens whose attention is kept.
        attention: `(blocks, heads, rows, tokens)`, adds up to 1 over the tokens.
        activation: `(blocks, tokens)`, the mean absolute activation.
        picture: uint8 `(size, size, 3)`, the image as the model sees it; None for a text. The first
            token of an image is the class token, the others are the patches, row by row.
        tokens: list of str, for a text; empty for an image.
    """

    answers: dict[str, list[tuple[str, float]]]
    notes: list[str]
    rows: list[str]
    attention: np.ndarray
    activation: np.ndarray
    picture: np.ndarray | None = None
    tokens: list[str] = dataclasses.field(default_factory=list)

    @property
    def blocks(self):
        """int, the number of blocks."""
        return self.attention.shape[0]

    @property
    def heads(self):
        """int, the attention heads of a block."""
        return self.attention.shape[1]


class ShownModel:
    """A trained model on the page.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.

    Attributes:
        trained: the same.
        takes_images, takes_texts: bool.
    """

    def __init__(self, trained):
        self.trained = trained
        self.takes_images = trained.backbone.image_size is not None
        has_text = trained.backbone.vocabulary_size is not None
        self.takes_texts = has_text and trained.vocabulary is not None
        self._functions = ServedModel(trained, TOP).functions
        self._of_image = functools.lru_cache(_KEPT)(self._look_at_image)
        self._of_text = functools.lru_cache(_KEPT)(self._look_at_text)
        if self.takes_texts:
            self._encode = TextEncoder(
                trained.vocabulary, trained.backbone.max_sequence_length, trained.lower_case
            )

    @property
    def fills_masks(self):
        """bool, whether it predicts the word at a `[MASK]`."""
        return FILL_MASK in self._functions

    def lacks(self):
        """What the model cannot do, in sentences.

        Returns:
            list of str.
        """
        lacking = []
        if not self.takes_images:
            lacking.append("It takes no images.")
        elif CLASSIFY_IMAGE not in self._functions:
            lacking.append("It has no head for images: only what its blocks do is shown.")
        if not self.takes_texts:
            lacking.append("It takes no texts.")
        elif not {CLASSIFY_TEXT, FILL_MASK} & self._functions.keys():
            lacking.append("It has no head for texts: only what its blocks do is shown.")
        return lacking

    def image(self, path):
        """What the model makes of an image.

        Args:
            path: str, an image file.

        Returns:
            `Shown`.

        Raises:
            ValueError: it cannot be read, or is no image that TensorFlow decodes.
        """
        return self._of_image(path, Item({"image": path}, "the image").value())

    def text(self, text, pair=""):
        """What the model makes of a text or a pair of texts.

        Masks are filled if there are any and the model can, as in `predict`.

        Args:
            text: str.
            pair: str, the second text; empty if there is none.

        Returns:
            `Shown`.

        Raises:
            ValueError: a `[MASK]` lies beyond what the model takes.
        """
        return self._of_text(text, pair)

    def _look_at_image(self, path, encoded):
        backbone = self.trained.backbone
        try:
            picture = central_crop(encoded, backbone.image_size, self.trained.central_crop).numpy()
        except tf.errors.InvalidArgumentError:
            raise ValueError(
                "the image cannot be read: it is damaged, or no JPEG, PNG, GIF, BMP or WebP"
            ) from None
        answers = {}
        if CLASSIFY_IMAGE in self._functions:
            items = [Item({"image": path}, "the image")]
            answers = self._answers(CLASSIFY_IMAGE, items)
        attention, activation = _inside(backbone, image_inputs({"images": picture[None]}))
        # Of the tokens before the patches, only the class token: DeiT has another one.
        shown = [0, *range(backbone.prefix_tokens, activation.shape[-1])]
        attention, activation = attention[:, :, :1, shown], activation[:, shown]
        return Shown(answers, [], ["the class token"], attention, activation, picture=picture)

    def _look_at_text(self, text, pair):
        inputs = {"text": text, "text_pair": pair} if pair else {"text": text}
        items, has_mask = [Item(inputs, "the text")], any(MASK in t for t in inputs.values())
        heads = {CLASSIFY_TEXT, FILL_MASK} & self._functions.keys()
        signature = choose(self._functions, items, self.trained.path) if heads else None
        fills = has_mask and signature == FILL_MASK
        answers = self._answers(signature, items) if fills or signature == CLASSIFY_TEXT else {}
        notes = []
        if signature == FILL_MASK and not has_mask:
            notes.append(f"Nothing to predict: write {MASK} in place of a word.")
        if has_mask and not fills:
            notes.append(f"This model fills no masks: it reads {MASK} as three plain tokens.")
        columns = [tf.constant([t]) for t in inputs.values()]
        encoded = self._encode(*columns, masks=fills)
        whole = sum(int(self._encode.tokenize(c, fills).row_lengths()[0]) + 1 for c in columns) + 1
        length = self.trained.backbone.max_sequence_length
        if whole > length:
            notes.append(f"Its end is cut off: {whole} tokens, and the model takes {length}.")
        tokens = encoded["token_ids"].numpy()[0]
        attention, activation = _inside(self.trained.backbone, encoded)
        places = np.flatnonzero(tokens == self._encode.mask_id) if fills else np.array([0])
        return Shown(
            answers,
            notes,
            list(answers) if fills else ["[CLS]"],
            attention[:, :, places],
            activation,
            tokens=[self.trained.vocabulary[token] for token in tokens],
        )

    def _answers(self, signature, items):
        """The likeliest classes or tokens, as in `Shown`."""
        [prediction] = predict(self._functions, signature, items, top_k=TOP, path=self.trained.path)
        if not prediction.is_masked:
            return {"": prediction.answers[0]}
        return {f"mask {number}": some for number, some in enumerate(prediction.answers, 1)}


def _inside(backbone, inputs):
    """What `look_inside` says about a single example, as arrays without the batch axis."""
    return [keras.ops.convert_to_numpy(values)[0] for values in look_inside(backbone, inputs)]
