"""BERTs of other projects, with the outputs of a `PreTrainingNetwork`."""

import keras
import keras_hub
from keras import ops

from keras_vitbert.importing import google, hugging_face, keras_hub_presets, sources
from keras_vitbert.importing.activations import ACTIVATIONS
from keras_vitbert.importing.image_teachers import dense
from keras_vitbert.importing.keras_hub_backbones import build_bert
from keras_vitbert.model.heads import logits_policy


class TextTeacher(keras.Model):
    """A frozen masked-LM, with or without a next-sentence head, over the student's vocabulary.

    Args:
        network: layer from a dict of `token_ids`, `segment_ids`, `padding_mask` and
            `mask_positions` to masked-LM logits, or to a dict of `mlm_logits` and `nsp_logits`.
        vocabulary: list of str.
        vocabulary_size: int, how many tokens the network has logits for.
        max_sequence_length: int, tokens; None if it takes any length.
        has_next_sentence: bool.
        columns: int, the size of the student's vocabulary: further logits are cut off.

    Call it on a dict of `token_ids`, `segment_ids`, `padding_mask` `(batch, length)` and
    `masked_positions` `(batch, predictions)`; it returns float32 `mlm_logits` `(batch, predictions,
    columns)` and, with a next-sentence head, `nsp_logits` `(batch, 2)`, where class 1 means that
    segment B is a random one.
    """

    def __init__(
        self,
        network,
        vocabulary,
        vocabulary_size,
        max_sequence_length,
        has_next_sentence,
        columns,
        **kwargs,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.network = network
        self.vocabulary = vocabulary
        self.vocabulary_size = vocabulary_size
        self.max_sequence_length = max_sequence_length
        self.has_next_sentence = has_next_sentence
        self.columns = columns
        self.trainable = False
        self.built = True

    def call(self, inputs):
        names = ("token_ids", "segment_ids", "padding_mask", "masked_positions")
        inputs = {name: ops.cast(inputs[name], "int32") for name in names}
        inputs["mask_positions"] = inputs.pop("masked_positions")
        outputs = self.network(inputs, training=False)
        if not isinstance(outputs, dict):
            outputs = {"mlm_logits": outputs}
        outputs = {name: ops.cast(logits, "float32") for name, logits in outputs.items()}
        outputs["mlm_logits"] = outputs["mlm_logits"][..., : self.columns]
        return outputs


class BertPreTraining(keras.layers.Layer):
    """BERT with the heads of its pre-training.

    Args:
        weights: `BertWeights`.
        dtype: a Keras dtype policy.

    It takes the inputs of `TextTeacher`'s network, and returns `mlm_logits` and, with a
    next-sentence head, `nsp_logits`.
    """

    def __init__(self, weights, dtype=None, **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        config, tensors = weights.config, weights.tensors
        self.backbone = build_bert(weights, dtype)
        embedding = self.backbone.token_embedding
        policy = logits_policy(self.dtype_policy)
        embedding.reverse_dtype = policy.compute_dtype
        self.mlm_head = keras_hub.layers.MaskedLMHead(
            vocabulary_size=config["vocab_size"],
            token_embedding=None if weights.has_own_decoder else embedding,
            intermediate_activation=ACTIVATIONS[config["hidden_act"]],
            layer_norm_epsilon=config["layer_norm_eps"],
            dtype=policy,
            name="mlm_head",
        )
        self.mlm_head.build((None, None, config["hidden_size"]))
        transform = "cls.predictions.transform"
        values = {
            "intermediate_dense/kernel": tensors[f"{transform}.dense.weight"].T,
            "intermediate_dense/bias": tensors[f"{transform}.dense.bias"],
            "intermediate_layer_norm/gamma": tensors[f"{transform}.LayerNorm.weight"],
            "intermediate_layer_norm/beta": tensors[f"{transform}.LayerNorm.bias"],
            "mlm_head/output_bias": tensors["cls.predictions.bias"],
        }
        if weights.has_own_decoder:
            values["mlm_head/output_kernel"] = tensors["cls.predictions.decoder.weight"].T
        for variable in self.mlm_head.variables:
            if variable is not embedding.embeddings:
                variable.assign(values["/".join(variable.path.split("/")[-2:])])
        self.nsp_head = None
        if weights.has_next_sentence:
            name = "cls.seq_relationship"
            self.nsp_head = dense(tensors, name, config["hidden_size"], policy)
        self.built = True

    def call(self, inputs):
        inputs = dict(inputs)
        positions = inputs.pop("mask_positions")
        outputs = self.backbone(inputs, training=False)
        logits = {"mlm_logits": self.mlm_head(outputs["sequence_output"], positions)}
        if self.nsp_head is not None:
            logits["nsp_logits"] = self.nsp_head(outputs["pooled_output"])
        return logits


def load_text_teacher(source, dtype=None, columns=None):
    """Loads a masked-LM of another project.

    Args:
        source: `sources.Source`, of any kind but a run of this project.
        dtype: a Keras dtype policy.
        columns: int, the size of the student's vocabulary; None for that of the teacher's.

    Returns:
        `TextTeacher`.

    Raises:
        UserError: it is no masked-LM, or damaged.
    """
    if source.kind == sources.PRESET:
        return TextTeacher(**keras_hub_presets.load_masked_lm(source, dtype), columns=columns)
    readers = {
        sources.HUGGING_FACE: hugging_face.read_bert,
        sources.GOOGLE_BERT: google.read_bert,
    }
    sources.require_kind(source, readers, "texts")
    weights = readers[source.kind](source)
    return TextTeacher(
        BertPreTraining(weights, dtype, name="bert"),
        weights.vocabulary,
        weights.config["vocab_size"],
        weights.config["max_position_embeddings"],
        weights.has_next_sentence,
        columns,
    )
