"""The tokenizer of presets: WordPiece, with the same tokens as in training."""

import keras
import keras_hub
import tensorflow as tf

from keras_vitbert.model.backbone import ViTBertBackbone
from pipelines.text.tokenization import TextEncoder
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP


@keras.saving.register_keras_serializable(package="keras_vitbert")
class ViTBertTokenizer(keras_hub.tokenizers.WordPieceTokenizer):
    """The tokenizer of training as a keras-hub tokenizer.

    keras-hub's own WordPiece splits words by other rules, so some texts would get other tokens than
    in training.

    Args:
        vocabulary: list of str, or the path of a `vocab.txt`.
        lowercase: bool; also strips accents.
        special_tokens_in_strings: bool, whether `[MASK]` in a string is that token.

    Call it on a string or a batch of strings; it returns token ids, without `[CLS]` and `[SEP]`.
    They are dense if `sequence_length` is set; otherwise ragged, or lists outside of a
    `tf.function`.
    """

    backbone_cls = ViTBertBackbone

    def __init__(self, vocabulary=None, lowercase=True, **kwargs):
        self._add_special_token(CLS, "cls_token")
        self._add_special_token(SEP, "sep_token")
        self._add_special_token(PAD, "pad_token")
        self._add_special_token(MASK, "mask_token")
        self._add_special_token(CLS, "start_token")
        self._add_special_token(SEP, "end_token")
        kwargs["strip_accents"] = lowercase
        super().__init__(vocabulary=vocabulary, lowercase=lowercase, **kwargs)

    def set_vocabulary(self, vocabulary):
        self._encoder = None
        super().set_vocabulary(vocabulary)

    def tokenize(self, inputs):
        self._check_vocabulary()
        if self._encoder is None:
            with tf.init_scope():  # the first call may be in a graph
                self._encoder = TextEncoder(self.vocabulary, 0, self.lowercase)
        with tf.device("cpu"):
            tokens = self._tokens(tf.convert_to_tensor(inputs))
        if tf.inside_function():
            return tokens
        if self.sequence_length:
            return tokens.numpy()
        is_batch = isinstance(tokens, tf.RaggedTensor)
        return _decoded(tokens.to_list() if is_batch else tokens.numpy().tolist())

    def _tokens(self, texts):
        """Tokens, ragged or dense if the length is fixed; with a batch axis if texts have one."""
        tokens = self._encoder.tokenize(tf.reshape(texts, (-1,)), self.special_tokens_in_strings)
        if self.compute_dtype == "string":
            tokens = tokens.with_values(tf.gather(self.vocabulary, tokens.values))
        if self.sequence_length:
            tokens = tokens.to_tensor(shape=(None, self.sequence_length))
        return tf.ensure_shape(tokens[0], (self.sequence_length,)) if texts.ndim == 0 else tokens


def _decoded(tokens):
    """Bytes as str, in nested lists."""
    if isinstance(tokens, list):
        return [_decoded(token) for token in tokens]
    return tokens.decode() if isinstance(tokens, bytes) else tokens
