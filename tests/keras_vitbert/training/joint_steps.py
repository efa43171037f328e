"""A joint training step in eager mode, and what to expect of it: other code, TensorFlow's tape."""

import numpy as np
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.training.anomaly_guard import STEP_ROW

RATIO, TEMPERATURE = 0.3, 2.0
NO_CLIP = 1e9
ADAMW = {
    "name": "adamw",
    "ema": 0.0,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "decay_power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-4,  # above the rounding of gradients that are zero, such as the key bias'
    "weight_decay": 0.1,
}


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def values(variables):
    return [v.numpy() for v in variables]


def weights(trainer):
    return values(trainer.network.trainable_variables)


def step(trainer, batch, **options):
    """A training step in eager mode; its logs as floats."""
    logs = trainer.train_step(tensors(batch), **options)
    return {name: float(value) for name, value in logs.items() if name != STEP_ROW}


def randomize_masks(merge, seed=5):
    rng = np.random.default_rng(seed)
    for mask in merge.mask.masks:
        mask.assign(rng.random(mask.shape) < 0.5)


def mean_loss(labels, weights, logits, teacher=None):
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if teacher is not None:
        t, s = (tf.nn.log_softmax(z / TEMPERATURE) for z in (teacher, logits))
        divergence = tf.reduce_sum(tf.exp(t) * (t - s), axis=-1)
        loss = (1 - RATIO) * loss + RATIO * TEMPERATURE**2 * divergence
    return tf.reduce_sum(loss * weights) / tf.reduce_sum(weights)


def text_loss(network, batch, teacher=None):
    logits = network(text_inputs(batch))
    teacher = teacher(text_inputs(batch), training=False) if teacher else {}
    mlm = (batch["masked_ids"], batch["masked_weights"], logits["mlm_logits"])
    nsp = (batch["next_sentence_labels"], np.ones(4, np.float32), logits["nsp_logits"])
    return mean_loss(*mlm, teacher.get("mlm_logits")) + mean_loss(*nsp, teacher.get("nsp_logits"))


def image_loss(network, batch, teacher=None):
    logits = network(image_inputs(batch))["image_logits"]
    teacher = teacher(image_inputs(batch), training=False) if teacher else {}
    labels = (batch["image_labels"], np.ones(4, np.float32))
    return mean_loss(*labels, logits, teacher.get("image_logits"))


def gradients(loss, network, batch, teacher=None):
    """Dense and in float64; None where the loss does not reach."""
    variables = [v.value for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        value = loss(network, tensors(batch), teacher)
    found = tape.gradient(value, variables)
    return [None if g is None else np.asarray(tf.convert_to_tensor(g), np.float64) for g in found]


def merge_by_mask(text, image, masks):
    masks = iter(masks)
    merged = []
    for t, i in zip(text, image, strict=True):
        if t is None or i is None:
            merged.append(i if t is None else t)
        else:
            mask = next(masks)
            merged.append(mask * t + (1.0 - mask) * i)
    return merged


def merge_by_sum(text, image, ratio):
    pairs = zip(text, image, strict=True)
    return [
        (0 if t is None else (1 - ratio) * t) + (0 if i is None else ratio * i) for t, i in pairs
    ]
