"""How strongly hidden units and tokens respond in every block, and what tokens attend to."""

import keras
import numpy as np
from keras import ops

from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.model.whole_batches import on_whole_batches
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP

LEFT_OUT = (PAD, CLS, SEP, MASK)  # tokens that are not part of the text


class MeanActivations:
    """Mean absolute activation of every hidden unit at the output of every block.

    The mean is over the tokens of all examples: the patches of an image, without the class token
    and DeiT's second token; the word pieces of a text, without padding and `LEFT_OUT`. Where
    masking has replaced a piece, its replacement counts. Examples whose `image_weights` or
    `text_weights` are 0 only fill up a batch and do not count.

    Args:
        backbone: `ViTBertBackbone`, with one or both modalities.
        strategy: the backbone's, see `tpu.strategy.get_strategy`.
        vocabulary: list of str, by token id; None without text.
    """

    def __init__(self, backbone, strategy, vocabulary=None):
        self.strategy = strategy
        self._prefix = backbone.prefix_tokens
        self._models = {}
        outputs, inputs = backbone.block_outputs, backbone.input
        for modality, names in (
            ("image", ("images",)),
            ("text", ("token_ids", "segment_ids", "padding_mask")),
        ):
            if names[0] in inputs:
                self._models[modality] = keras.Model(
                    {name: inputs[name] for name in names},
                    {  # Keras would return a list of one output as that output
                        f"{block}": outputs[f"{modality}_block_{block}"]
                        for block in range(backbone.num_layers)
                    },
                )
        if "text" in self._models:
            self._left_out = [vocabulary.index(token) for token in LEFT_OUT]
        self._sums = on_whole_batches(self.step, backbone, strategy, sums=True)

    def __call__(self, batches):
        """The means over all replicas.

        Args:
            batches: iterable of dicts as `JointStream.validation` yields them, all of the same
                shapes, distributed by the strategy.

        Returns:
            dict of modality to float32 `(blocks, D)`; 0 where no token counts.
        """
        sums, counts = 0.0, 0.0
        for batch in batches:
            more = self._sums(batch)
            sums += more[0].astype(np.float64)
            counts += more[1].astype(np.float64)
        counts = np.reshape(counts, (-1, 1, 1))
        means = sums / np.maximum(counts, 1)
        return dict(zip(self._models, means.astype(np.float32), strict=True))

    def step(self, batch):
        """The sums of one replica; TPUs compile it unchanged.

        Args:
            batch: dict of tensors, the replica's share.

        Returns:
            float32 sums `(modalities, blocks, D)` and numbers of tokens `(modalities,)`.
        """
        sums, counts = [], []
        for modality, model in self._models.items():
            if modality == "image":
                outputs = model(image_inputs(batch), training=False)
                counted = self._image_tokens(batch, outputs["0"].shape[1])
            else:
                inputs = {name: batch[name] for name in model.input}
                outputs = model(inputs, training=False)
                counted = self._text_tokens(batch)
            counted_units = counted[..., None]
            for block in range(len(outputs)):
                values = ops.abs(ops.cast(outputs[f"{block}"], "float32"))
                # Not a matrix product, which a TPU would round to bfloat16.
                sums.append(ops.sum(ops.where(counted_units, values, 0.0), axis=(0, 1)))
            counts.append(ops.sum(ops.cast(counted, "float32")))
        sums = ops.reshape(ops.stack(sums), (len(self._models), -1, sums[0].shape[0]))
        return sums, ops.stack(counts)

    def _image_tokens(self, batch, length):
        """Which tokens count: bool `(images, length)`."""
        is_patch = ops.arange(length)[None] >= self._prefix
        images = ops.shape(batch["images"])[0]
        weights = batch.get("image_weights", ops.ones((images,)))
        return is_patch & (weights[:, None] > 0)

    def _text_tokens(self, batch):
        """Which tokens count: bool `(texts, length)`."""
        tokens = batch["token_ids"]
        counted = ops.cast(batch["padding_mask"], "bool")
        for token in self._left_out:
            counted &= tokens != token
        if "text_weights" in batch:
            counted &= batch["text_weights"][:, None] > 0
        return counted


def look_inside(backbone, inputs):
    """Runs a backbone on inputs of one modality and records what its blocks do.

    Args:
        backbone: `ViTBertBackbone`.
        inputs: dict of its inputs, `images` or `token_ids`, `segment_ids` and `padding_mask`.

    Returns:
        float32 tensors. The attention weights are `(batch, blocks, heads, length, length)`; each
        row, what one token attends to, adds up to 1. The mean absolute activation at the output of
        every block is `(batch, blocks, length)`, the mean over the hidden units.
    """
    stream = "image" if "images" in inputs else "text"
    x = backbone.embed(stream, inputs, training=False)
    mask = inputs.get("padding_mask") if stream == "text" else None
    attention, activation = [], []
    for block in backbone.blocks:
        x, weights = block(x, padding_mask=mask, training=False, return_attention_scores=True)
        attention.append(ops.cast(weights, "float32"))
        activation.append(ops.mean(ops.abs(ops.cast(x, "float32")), axis=-1))
    return ops.stack(attention, axis=1), ops.stack(activation, axis=1)
