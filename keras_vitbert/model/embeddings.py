"""The paper's modality-specific tokenizers: images (eq. 1) and text (eq. 2) to tokens."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_vitbert.model.tensors import Tensor, ops

INITIALIZER_STDDEV = 0.02


def truncated_normal() -> Any:
    """The initializer of BERT and ViT for embeddings.

    Kernels of blocks and heads are Glorot-uniform, as in ViT: a standard deviation of 0.02 suits
    D = 768 but leaves small encoders almost linear for their first thousand steps.
    """
    return keras.initializers.TruncatedNormal(stddev=INITIALIZER_STDDEV)


def scaled_by(scale: float, x: Tensor) -> Tensor:
    """The product of a tensor and a number; with 1, the tensor as it is."""
    return x if scale == 1 else x * scale


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ImageEmbedding(keras.layers.Layer):
    """Patches, class token and positions: `z0 = [x_cls; x_1 E; ...; x_N E] + E_pos` (eq. 1).

    The projection `E` has no bias, as in the equation: a bias would only add to `E_pos`. Published
    ViTs have one.

    Args:
        image_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; divides `image_size`.
        hidden_dim: `D`.
        dropout: rate applied to the sum.
        use_bias: whether `E` has a bias.
        prefix_tokens: learned tokens before the patches: the class token, and DeiT's distillation
            token where it is 2.
        mean, std: one for each of three channels: `(image - mean) / std` is what is embedded.
        position_scale: factor on the position embeddings.

    Input `(batch, image_size, image_size, 3)` floats in [0, 1], which a mean and std of 0.5 scale
    to [-1, 1]; output `(batch, prefix_tokens + (image_size / patch_size)**2, hidden_dim)`.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, or `std` contains a 0.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        hidden_dim: int,
        dropout: float = 0.0,
        use_bias: bool = False,
        prefix_tokens: int = 1,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        position_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if image_size % patch_size:
            raise ValueError(
                f"patch_size {patch_size} does not divide image_size {image_size}; "
                f"the nearest that does is {image_size // patch_size * patch_size}"
            )
        if not all(std):
            raise ValueError(f"std {tuple(std)} contains a 0")
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.prefix_tokens = prefix_tokens
        self.position_scale = position_scale
        self._scale: Any = [1 / s for s in std]
        self._offset: Any = [-m / s for m, s in zip(mean, std, strict=True)]
        if len(set(self._scale)) == len(set(self._offset)) == 1:  # a scalar is less work
            self._scale, self._offset = self._scale[0], self._offset[0]
        self.grid = image_size // patch_size
        self.patch_projection = keras.layers.Dense(
            hidden_dim,
            use_bias=use_bias,
            kernel_initializer=truncated_normal(),
            dtype=self.dtype_policy,
            name="patch_projection",
        )
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: Any) -> None:
        self.patch_projection.build((None, self.grid**2, self.patch_size**2 * 3))
        self.class_token = self.add_weight(
            name="class_token", shape=(1, self.prefix_tokens, self.hidden_dim), initializer="zeros"
        )
        self.position_embedding = self.add_weight(
            name="position_embedding",
            shape=(1, self.prefix_tokens + self.grid**2, self.hidden_dim),
            initializer=truncated_normal(),
        )

    def patches(self, images: Tensor) -> Tensor:
        """Cuts images `(batch, H, W, 3)` into patches `(batch, N, P * P * 3)`, row by row."""
        grid, size = self.grid, self.patch_size
        x = ops.reshape(images, (-1, grid, size, grid, size * 3))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, grid * grid, size * size * 3))

    def call(self, images: Tensor) -> Tensor:
        scale, offset = (ops.cast(x, images.dtype) for x in (self._scale, self._offset))
        x = self.patch_projection(self.patches(images * scale + offset))
        prefix = (ops.shape(x)[0], self.prefix_tokens, self.hidden_dim)
        class_token = ops.broadcast_to(self.class_token, prefix)
        class_token = ops.cast(class_token, x.dtype)
        x = ops.concatenate([class_token, x], axis=1)
        positions = scaled_by(self.position_scale, ops.cast(self.position_embedding, x.dtype))
        return self.dropout_layer(x + positions)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (input_shape[0], self.prefix_tokens + self.grid**2, self.hidden_dim)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class TextEmbedding(keras.layers.Layer):
    """Tokens, positions and segments: `z0 = word(w) + position(0..T-1) + segment(s)` (eq. 2).

    There is no modality embedding, and no normalisation: the encoder has its own.

    Args:
        vocabulary_size: `V`.
        max_sequence_length: the longest `T`.
        hidden_dim: `D`.
        dropout: rate applied to the sum.
        num_segments: segment embeddings; with 0 there are none, and `segment_ids` are ignored.
        scale: factor on the sum.

    Inputs `token_ids` and `segment_ids` (below `num_segments`), both `(batch, length)` integers
    with `length` at most `max_sequence_length`; output `(batch, length, hidden_dim)`. Where a row
    holds several texts, `position_ids` of the same shape give each token's place in its text.
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_sequence_length: int,
        hidden_dim: int,
        dropout: float = 0.0,
        num_segments: int = 2,
        scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.max_sequence_length = max_sequence_length
        self.hidden_dim = hidden_dim

        def embedding(size: int, name: str) -> keras.layers.Embedding:
            return keras.layers.Embedding(
                size,
                hidden_dim,
                embeddings_initializer=truncated_normal(),
                dtype=self.dtype_policy,
                name=name,
            )

        self.word_embedding = embedding(vocabulary_size, "word_embedding")
        self.segment_embedding = None
        if num_segments:
            self.segment_embedding = embedding(num_segments, "segment_embedding")
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, *input_shapes: Any, **named_shapes: Any) -> None:
        self.word_embedding.build()
        if self.segment_embedding is not None:
            self.segment_embedding.build()
        self.position_embedding = self.add_weight(
            name="position_embedding",
            shape=(1, self.max_sequence_length, self.hidden_dim),
            initializer=truncated_normal(),
        )

    def call(
        self, token_ids: Tensor, segment_ids: Tensor, position_ids: Tensor | None = None
    ) -> Tensor:
        x = self.word_embedding(token_ids)
        if self.segment_embedding is not None:
            x = x + self.segment_embedding(segment_ids)
        if position_ids is None:
            positions = self.position_embedding[:, : ops.shape(token_ids)[1]]
        else:
            positions = ops.take(self.position_embedding[0], position_ids, axis=0)
        x = scaled_by(self.scale, x + ops.cast(positions, x.dtype))
        return self.dropout_layer(x)

    # Without it, Keras would try the call on lengths that JAX does not know.
    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape, self.hidden_dim)
