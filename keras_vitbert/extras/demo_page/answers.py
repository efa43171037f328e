"""What a trained model answers to an image or a text, and what its blocks do meanwhile."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.activations import look_inside
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.trained.predicting import Item, choose, predict
from keras_vitbert.trained.served_model import (
    CLASSIFY_IMAGE,
    CLASSIFY_TEXT,
    FILL_MASK,
    ServedModel,
)
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.images.image_decoding import central_crop
from pipelines.text.tokenization import TextEncoder
from pipelines.text.wordpiece import MASK

TOP = 5  # classes or tokens that are shown
_KEPT = 4  # inputs whose answers are kept


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A model's answers to one input, and what its blocks do.

    Attributes:
        answers: a title, such as `mask 1`, to names with their probabilities, the likeliest first;
            empty where the model predicts nothing.
        notes: what the reader should know.
        attention: `(blocks, heads, tokens)` by the token that attends; adds up to 1.
        activation: `(blocks, tokens)`, the mean absolute activation.
        picture: uint8 `(size, size, 3)`, the image as the model sees it; None for a text. The first
            token of an image is the class token, the others are the patches, row by row.
        tokens: of a text; empty for an image.
    """

    answers: dict[str, dict[str, float]]
    notes: list[str]
    attention: dict[str, np.ndarray]
    activation: np.ndarray
    picture: np.ndarray | None = None
    tokens: list[str] = dataclasses.field(default_factory=list)


class ShownModel:
    """A trained model on the page."""

    def __init__(self, trained: TrainedModel):
        self.trained = trained
        self.takes_images = trained.backbone.image_size is not None
        self._vocabulary = trained.vocabulary or []
        self.takes_texts = bool(trained.backbone.vocabulary_size and self._vocabulary)
        self._functions = ServedModel(trained, TOP).functions
        self.fills_masks = FILL_MASK in self._functions
        # So that looking at another block asks nothing again.
        self.image = functools.lru_cache(_KEPT)(self._look_at_image)
        self.text = functools.lru_cache(_KEPT)(self._look_at_text)
        if self.takes_texts:
            self._encode = TextEncoder(
                self._vocabulary, trained.backbone.max_sequence_length, trained.lower_case
            )

    def lacks(self) -> list[str]:
        """What the model cannot do, in sentences."""
        lacking = []
        heads = {"images": {CLASSIFY_IMAGE}, "texts": {CLASSIFY_TEXT, FILL_MASK}}
        takes = {"images": self.takes_images, "texts": self.takes_texts}
        for kind in heads:
            if not takes[kind]:
                lacking.append(f"It takes no {kind}.")
            elif not heads[kind] & self._functions.keys():
                lacking.append(f"It has no head for {kind}: only what its blocks do is shown.")
        return lacking

    def _look_at_image(self, path: str) -> Shown:
        """Answers to an image file; one that TensorFlow does not decode is a `ValueError`."""
        backbone, item = self.trained.backbone, Item({"image": path}, "the image")
        size, crop = backbone.image_size, self.trained.central_crop
        try:
            picture = central_crop(tf.constant(item.value()), size, crop).numpy()
        except tf.errors.InvalidArgumentError:
            raise ValueError(
                "the image cannot be read: it is damaged, or no JPEG, PNG, GIF, BMP or WebP"
            ) from None
        answers = {}
        if CLASSIFY_IMAGE in self._functions:
            answers = self._answers(CLASSIFY_IMAGE, item)
        attention, activation = _inside(backbone, image_inputs({"images": picture[None]}))
        # Of the tokens before the patches, only the class token: DeiT has another one.
        shown = [0, *range(backbone.prefix_tokens, activation.shape[-1])]
        by_class_token = {"the class token": attention[:, :, 0, shown]}
        return Shown(answers, [], by_class_token, activation[:, shown], picture=picture)

    def _look_at_text(self, text: str, pair: str = "") -> Shown:
        """Answers to a text or a pair of texts, the second empty if there is none.

        Masks are filled if there are any and the model can, as in `predict`; one beyond the model's
        length is a `ValueError`.
        """
        inputs = {"text": text, "text_pair": pair} if pair else {"text": text}
        item, has_mask = Item(inputs, "the text"), any(MASK in t for t in inputs.values())
        heads = {CLASSIFY_TEXT, FILL_MASK} & self._functions.keys()
        signature = choose(self._functions, [item], self.trained.path) if heads else None
        fills = has_mask and signature == FILL_MASK
        answers = {}
        if signature and (fills or signature == CLASSIFY_TEXT):
            answers = self._answers(signature, item)
        notes = []
        if signature == FILL_MASK and not has_mask:
            notes.append(f"Nothing to predict: write {MASK} in place of a word.")
        if has_mask and not fills:
            notes.append(f"This model fills no masks: it reads {MASK} as three plain tokens.")
        columns = [tf.constant([t]) for t in inputs.values()]
        encoded = self._encode(columns[0], columns[1] if pair else None, masks=fills)
        whole = sum(int(self._encode.tokenize(c, fills).row_lengths()[0]) + 1 for c in columns) + 1
        length = self.trained.backbone.max_sequence_length
        if whole > length:
            notes.append(f"Its end is cut off: {whole} tokens, and the model takes {length}.")
        tokens = encoded["token_ids"].numpy()[0]
        attention, activation = _inside(self.trained.backbone, encoded)
        places = np.flatnonzero(tokens == self._encode.mask_id) if fills else [0]
        rows = zip(answers if fills else ["[CLS]"], places, strict=True)
        by_token = {row: attention[:, :, place] for row, place in rows}
        words = [self._vocabulary[token] for token in tokens]
        return Shown(answers, notes, by_token, activation, tokens=words)

    def _answers(self, signature: str, item: Item) -> dict[str, dict[str, float]]:
        """The likeliest classes or tokens, as in `Shown`."""
        path = self.trained.path
        [prediction] = predict(self._functions, signature, [item], top_k=TOP, path=path)
        if not prediction.is_masked:
            return {"answers": dict(prediction.answers[0])}
        return {f"mask {number}": dict(some) for number, some in enumerate(prediction.answers, 1)}


def _inside(backbone: ViTBertBackbone, inputs: dict) -> tuple[np.ndarray, np.ndarray]:
    """`look_inside` a single example: arrays without the batch axis."""
    attention, activation = map(keras.ops.convert_to_numpy, look_inside(backbone, inputs))
    return np.asarray(attention)[0], np.asarray(activation)[0]
