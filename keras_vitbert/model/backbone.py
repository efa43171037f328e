"""The shared transformer: both modalities through the same blocks (eq. 1 to 4)."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_hub

from keras_vitbert.model.backbone_inputs import check_inputs, masks_of, scaled, streams_of
from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
from keras_vitbert.model.encoder_block import ACTIVATIONS, TransformerEncoder, shape_at
from keras_vitbert.model.tensors import Tensor, Tensors

NORMS = ("pre", "post")
# What a config of a backbone holds, besides the dtype and the name.
_ARGUMENTS = (
    *("num_layers", "num_heads", "hidden_dim", "intermediate_dim", "image_size", "patch_size"),
    *("vocabulary_size", "max_sequence_length", "dropout", "attention_dropout"),
    *("stochastic_depth", "layer_norm_epsilon", "norm", "activation", "num_segments"),
    *("patch_bias", "prefix_tokens", "image_mean", "image_std", "embedding_scale"),
)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertBackbone(keras_hub.models.Backbone):
    """One transformer encoder for images and for text.

    The blocks and an extra LayerNorm are created once and called on both token sequences. Only the
    embeddings differ between the modalities.

    | `norm` | block | the extra LayerNorm |
    | --- | --- | --- |
    | `pre` | `z' = MSA(LN(z)) + z`, `z = MLP(LN(z')) + z'` (eq. 3 and 4, as in ViT) | at the end |
    | `post` | `z' = LN(MSA(z) + z)`, `z = LN(MLP(z') + z')` (as in BERT) | after the embeddings |

    Args:
        num_layers: transformer blocks.
        num_heads: attention heads; divides `hidden_dim`.
        hidden_dim: `D`.
        intermediate_dim: hidden units of each block's MLP.
        image_size: image height and width in pixels, or None for a model without images.
        patch_size: patch height and width in pixels; divides `image_size`.
        vocabulary_size: `V`, or None for a model without text.
        max_sequence_length: the longest text in tokens.
        dropout: rate after the embeddings, attention and MLP.
        attention_dropout: rate on attention weights; -1 for the rate `dropout`. With 0, attention
            is `keras.ops.dot_product_attention`, which a backend may fuse.
        stochastic_depth: rate at which an example skips the attention, and the MLP, of the last
            block; it rises from block to block in equal steps (Huang et al. 2016, eq. 4).
        norm: `pre` or `post`, see above.
        activation: for the MLPs, a key of `keras_vitbert.model.encoder_block.ACTIVATIONS`.
        num_segments: segment embeddings; 0 for a text model without them, such as DistilBERT, which
            ignores `segment_ids`.
        patch_bias, prefix_tokens, image_mean, image_std: see `ImageEmbedding`.
        embedding_scale: factor on the embeddings of words, positions and segments, as in Vaswani et
            al. 2017, section 3.4. They start with a standard deviation of 0.02. Where nothing
            normalises their sum (`pre`), this sum is a token's own signal, next to what attention
            adds to all tokens alike. A small model, whose kernels are large, learns text sooner
            with a larger factor.
        dtype: a Keras dtype or policy, such as `"mixed_bfloat16"`.

    Call it on a dict with the inputs of one modality or of both:

    - `images`: `(batch, image_size, image_size, 3)`, integers in 0 to 255 or floats in [0, 1];
    - `token_ids`, `segment_ids`: `(batch, length)` integers;
    - `padding_mask`: `(batch, length)`, true or 1 for real tokens;
    - where rows hold several texts, also `position_ids`: `(batch, length)` integers, which start
      at 0 in each text. `padding_mask` then holds the number of the text, counted from 1, and 0 for
      padding; tokens attend to tokens of their own text (`pipelines.text_stream.packed`).

    It returns a dict with `image_sequence` `(batch, prefix_tokens + patches, hidden_dim)`, the
    class token first, and `text_sequence` `(batch, length, hidden_dim)`, each if its inputs are
    given. Called with `image_positions` and `text_positions`, see `encoder_block.tokens_at`, it
    returns only those tokens, and skips what the last block would compute for the others: a head
    that reads the class token needs no more.

    `block_outputs` maps a name to the symbolic output of a layer, so that
    `keras.Model(backbone.inputs, backbone.block_outputs)` returns all of them: `image_embedding`,
    `image_block_0` ... `image_sequence`, and the same for `text`.

    Raises:
        ValueError: heads or patches do not divide, there is no modality, or a name is unknown. In a
            call: an input is missing or has the wrong shape. In an eager call: image floats are
            outside [0, 1].

    Example:

    ```python
    backbone = ViTBertBackbone(
        num_layers=2, num_heads=2, hidden_dim=32, intermediate_dim=64,
        image_size=32, patch_size=8, vocabulary_size=100, max_sequence_length=16,
    )
    backbone({"images": np.zeros((1, 32, 32, 3))})["image_sequence"].shape  # (1, 17, 32)
    ```
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        image_size: int | None = 224,
        patch_size: int = 16,
        vocabulary_size: int | None = 30_000,
        max_sequence_length: int = 512,
        dropout: float = 0.1,
        attention_dropout: float = -1.0,
        stochastic_depth: float = 0.0,
        layer_norm_epsilon: float = 1e-6,
        norm: str = "pre",
        activation: str = "gelu",
        num_segments: int = 2,
        patch_bias: bool = False,
        prefix_tokens: int = 1,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        embedding_scale: float = 1.0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        if hidden_dim % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide hidden_dim {hidden_dim}")
        if image_size is None and vocabulary_size is None:
            raise ValueError("image_size and vocabulary_size are both None: no modality is left")
        for name, value, known in (("norm", norm, NORMS), ("activation", activation, ACTIVATIONS)):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; known are {', '.join(known)}")

        # === Layers ===
        self.image_embedding: Any = None  # an `ImageEmbedding`, unless there are no images
        self.text_embedding: Any = None  # a `TextEmbedding`, unless there is no text
        of_embedding = dropout if norm == "pre" else 0.0  # else it follows the LayerNorm
        if image_size is not None:
            self.image_embedding = ImageEmbedding(
                image_size,
                patch_size,
                hidden_dim,
                of_embedding,
                use_bias=patch_bias,
                prefix_tokens=prefix_tokens,
                mean=image_mean,
                std=image_std,
                position_scale=embedding_scale,
                dtype=dtype,
                name="image_embedding",
            )
        if vocabulary_size is not None:
            self.text_embedding = TextEmbedding(
                vocabulary_size,
                max_sequence_length,
                hidden_dim,
                num_segments=num_segments,
                dropout=of_embedding,
                scale=embedding_scale,
                dtype=dtype,
                name="text_embedding",
            )

        def layer_norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(
                epsilon=layer_norm_epsilon, dtype=dtype, name=name
            )

        self.embedding_norm = layer_norm("embedding_norm") if norm == "post" else None
        self.embedding_dropout = None
        if norm == "post":
            self.embedding_dropout = keras.layers.Dropout(
                dropout, dtype=dtype, name="embedding_dropout"
            )
        self.blocks = [
            TransformerEncoder(
                intermediate_dim=intermediate_dim,
                num_heads=num_heads,
                dropout=dropout,
                attention_dropout=attention_dropout if attention_dropout >= 0 else dropout,
                stochastic_depth=stochastic_depth * (index + 1) / num_layers,
                activation=ACTIVATIONS[activation],
                layer_norm_epsilon=layer_norm_epsilon,
                kernel_initializer="glorot_uniform",
                normalize_first=norm == "pre",
                dtype=dtype,
                name=f"block_{index}",
            )
            for index in range(num_layers)
        ]
        self.final_norm = layer_norm("final_norm") if norm == "pre" else None

        # === Functional Model ===
        inputs, outputs, block_outputs = {}, {}, {}
        if image_size is not None:
            inputs["images"] = keras.Input((image_size, image_size, 3), name="images")
            outputs["image_sequence"] = self._encode("image", inputs, block_outputs)
        if vocabulary_size is not None:
            for name in ("token_ids", "segment_ids", "padding_mask"):
                inputs[name] = keras.Input((None,), dtype="int32", name=name)
            outputs["text_sequence"] = self._encode("text", inputs, block_outputs)
        super().__init__(inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)

        # === Config ===
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.image_size = image_size
        self.patch_size = patch_size
        self.vocabulary_size = vocabulary_size
        self.max_sequence_length = max_sequence_length
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.layer_norm_epsilon = layer_norm_epsilon
        self.norm = norm
        self.activation = activation
        self.num_segments = num_segments
        self.patch_bias = patch_bias
        self.prefix_tokens = prefix_tokens
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.embedding_scale = embedding_scale
        self._block_outputs = tuple(block_outputs.items())
        # A functional model requires every input; this one accepts either modality alone.
        self.input_spec = None

    @property
    def block_outputs(self) -> dict[str, keras.KerasTensor]:
        """The symbolic outputs of layers by their names, see the class."""
        return dict(self._block_outputs)

    @property
    def patches(self) -> int:
        """How many patches an image has; 0 without images."""
        return ((self.image_size or 0) // self.patch_size) ** 2

    @property
    def shared_layers(self) -> list[keras.layers.Layer]:
        """The blocks, and the extra LayerNorm: before them with `post`, after them with `pre`."""
        layers = [self.embedding_norm, *self.blocks, self.final_norm]
        return [layer for layer in layers if layer is not None]

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """The trainable variables of `shared_layers`."""
        return [v for layer in self.shared_layers for v in layer.trainable_variables]

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensors:
        # Checked here, as Keras would wrap an error from `call` in ten lines of its own.
        check_inputs(self, inputs)
        if isinstance(inputs, dict) and "images" in inputs:
            inputs = {**inputs, "images": scaled(inputs["images"])}
        return super().__call__(inputs, *args, **kwargs)

    def call(
        self,
        inputs: Tensors,
        training: bool | None = None,
        mask: Any = None,
        image_positions: int | None = None,
        text_positions: Tensor | int | None = None,
    ) -> Tensors:
        positions = {"image": image_positions, "text": text_positions}
        return {
            f"{stream}_sequence": self._encode(stream, inputs, positions=positions[stream])
            for stream in streams_of(self, inputs)
        }

    def compute_output_spec(
        self,
        inputs: dict[str, keras.KerasTensor],
        training: bool | None = None,
        mask: Any = None,
        image_positions: int | None = None,
        text_positions: Any = None,
    ) -> dict[str, keras.KerasTensor]:
        batch = next(iter(inputs.values())).shape[0]
        sequences = {}
        for stream in streams_of(self, inputs):
            if stream == "image":
                length, positions = self.patches + self.prefix_tokens, image_positions
            else:
                length, positions = inputs["token_ids"].shape[1], text_positions
            shape = shape_at((batch, length, self.hidden_dim), positions)
            sequences[f"{stream}_sequence"] = keras.KerasTensor(shape, dtype=self.compute_dtype)
        return sequences

    def embed(self, stream: str, inputs: Tensors, training: bool | None = None) -> Tensor:
        """The input of the first block, `(batch, length, hidden_dim)`, of `image` or `text`."""
        options = {} if training is None else {"training": training}
        if stream == "image":
            x = self.image_embedding(inputs["images"], **options)
        else:
            names = ("token_ids", "segment_ids", "position_ids")
            x = self.text_embedding(*(inputs[name] for name in names if name in inputs), **options)
        if self.embedding_norm is None or self.embedding_dropout is None:
            return x
        return self.embedding_dropout(self.embedding_norm(x), **options)

    def _encode(
        self,
        stream: str,
        inputs: Tensors,
        outputs: Tensors | None = None,
        positions: Tensor | int | None = None,
    ) -> Tensor:
        """Runs the shared layers; adds every layer's output to `outputs`, if given."""
        options = masks_of(inputs) if stream == "text" else {}
        x = self.embed(stream, inputs)
        steps = [(f"{stream}_embedding", x)]
        for block in self.blocks:
            if positions is not None and block is self.blocks[-1]:
                options = {**options, "output_positions": positions}
            x = block(x, **options)
            steps.append((f"{stream}_{block.name}", x))
        if self.final_norm is not None:
            x = self.final_norm(x)
        steps.append((f"{stream}_sequence", x))
        if outputs is not None:
            outputs.update(steps)
        return x

    def get_config(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _ARGUMENTS}
        lists = {name: list(values[name]) for name in ("image_mean", "image_std")}
        return {**super().get_config(), **values, **lists}
