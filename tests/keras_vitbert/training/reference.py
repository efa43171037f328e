"""The paper's equations in NumPy and float64, written from the equations and not from the code.

Weights are a dict from a variable's path to its values, as `weights_of` reads them from a model.
"""

import numpy as np
from scipy.special import erf, logsumexp

LAYER_NORM_EPSILON = 1e-6


def weights_of(model):
    """The trainable weights of a Keras model or layer in float64, by path."""
    return {v.path: np.asarray(v.value, np.float64) for v in model.trainable_variables}


def part(weights, name):
    """The weights below a layer's name, by what is left of their path."""
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


# --- the model -----------------------------------------------------------------------------------


def gelu(x):
    return x * 0.5 * (1.0 + erf(x / np.sqrt(2.0)))


def gelu_tanh(x):
    return x * 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, w):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + LAYER_NORM_EPSILON) * w["gamma"] + w["beta"]


def image_embedding(images, w, patch_size, mean=0.5, std=0.5):
    """Eq. 1, patch by patch."""
    batch, height, width, _ = images.shape
    tokens = [np.repeat(w["class_token"], batch, axis=0)]
    for top in range(0, height, patch_size):
        for left in range(0, width, patch_size):
            patch = images[:, top : top + patch_size, left : left + patch_size].astype(np.float64)
            pixels = ((patch - mean) / std).reshape(batch, -1)
            token = pixels @ w["patch_projection/kernel"] + w.get("patch_projection/bias", 0)
            tokens.append(token[:, None])
    return np.concatenate(tokens, axis=1) + w["position_embedding"]


def text_embedding(token_ids, segment_ids, w):
    """Eq. 2."""
    words = w["word_embedding/embeddings"][token_ids]
    segments = w["segment_embedding/embeddings"][segment_ids]
    return words + segments + w["position_embedding"][:, : words.shape[1]]


def attention(x, w, padding_mask=None):
    """Multi-head self-attention, head by head; padded tokens are looked at by nobody."""
    _, heads, size = w["query/kernel"].shape
    out = w["attention_output/bias"] + np.zeros_like(x)
    for h in range(heads):
        q, k, v = (
            x @ w[f"{name}/kernel"][:, h] + w[f"{name}/bias"][h]
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(size)
        if padding_mask is not None:
            scores = np.where(np.asarray(padding_mask, bool)[:, None, :], scores, -np.inf)
        probabilities = np.exp(scores - logsumexp(scores, axis=-1, keepdims=True))
        out = out + probabilities @ v @ w["attention_output/kernel"][h]
    return out


def block(z, w, padding_mask=None):
    """Eq. 3 and 4."""
    normed = layer_norm(z, part(w, "self_attention_layer_norm"))
    z = attention(normed, part(w, "self_attention_layer"), padding_mask) + z
    normed = layer_norm(z, part(w, "feedforward_layer_norm"))
    up, down = part(w, "feedforward_intermediate_dense"), part(w, "feedforward_output_dense")
    return gelu(normed @ up["kernel"] + up["bias"]) @ down["kernel"] + down["bias"] + z


def encode(stream, z, weights, padding_mask=None):
    """Every layer's output of one token stream, by the names of `block_outputs`."""
    outputs = {f"{stream}_embedding": z}
    for index in range(sum(k.endswith("query/kernel") for k in weights)):
        z = block(z, part(weights, f"block_{index}"), padding_mask)
        outputs[f"{stream}_block_{index}"] = z
    outputs[f"{stream}_sequence"] = layer_norm(z, part(weights, "final_norm"))
    return outputs


def image_encoder(batch, weights, patch_size):
    z = image_embedding(batch["images"], part(weights, "image_embedding"), patch_size)
    return encode("image", z, weights)


def text_encoder(batch, weights):
    w = part(weights, "text_embedding")
    z = text_embedding(batch["token_ids"], batch["segment_ids"], w)
    return encode("text", z, weights, batch["padding_mask"])


def head(z, w):
    """Eq. 5, and eq. 6 without its softmax."""
    hidden = gelu(z @ w["hidden/kernel"] + w["hidden/bias"])
    return hidden @ w["logits/kernel"] + w["logits/bias"]


def masked_lm_head(sequence, positions, w):
    rows = [tokens[at] for tokens, at in zip(sequence, positions, strict=True)]
    return head(np.array(rows), w)


def image_logits(batch, weights, patch_size):
    sequence = image_encoder(batch, weights, patch_size)["image_sequence"]
    return {"image_logits": head(sequence[:, 0], part(weights, "image_head"))}


def text_logits(batch, weights):
    sequence = text_encoder(batch, weights)["text_sequence"]
    return {
        "mlm_logits": masked_lm_head(
            sequence, batch["masked_positions"], part(weights, "mlm_head")
        ),
        "nsp_logits": head(sequence[:, 0], part(weights, "nsp_head")),
    }


# --- losses --------------------------------------------------------------------------------------


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - logsumexp(logits, axis=-1, keepdims=True)


def cross_entropy(labels, logits):
    return -np.take_along_axis(log_softmax(logits), np.asarray(labels)[..., None], -1)[..., 0]


def distillation(labels, student, teacher, ratio, temperature):
    """Eq. 7."""
    loss = (1 - ratio) * cross_entropy(labels, student)
    if ratio == 0:
        return loss
    if temperature == 0:
        return loss + ratio * cross_entropy(np.argmax(teacher, -1), student)
    log_t, log_s = (log_softmax(np.float64(z) / temperature) for z in (teacher, student))
    return loss + ratio * temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum(-1)


def distillation_gradient(labels, student, teacher, ratio, temperature):
    """Of eq. 7 by the student's logits."""

    def one_hot(index):
        return np.asarray(index)[..., None] == np.arange(student.shape[-1])

    p = np.exp(log_softmax(student))
    gradient = (1 - ratio) * (p - one_hot(labels))
    if ratio == 0:
        return gradient
    if temperature == 0:
        return gradient + ratio * (p - one_hot(np.argmax(teacher, -1)))
    p_t, p_s = (np.exp(log_softmax(np.float64(z) / temperature)) for z in (teacher, student))
    return gradient + ratio * temperature * (p_s - p_t)


def task_values(task, labels, weights, logits, teacher=None, ratio=0.0, temperature=1.0):
    """A task's weighted mean loss (eq. 7) and accuracy, as logs of training name them."""
    losses = distillation(labels, logits, teacher, ratio, temperature)
    correct = np.argmax(logits, -1) == labels
    return {
        f"{task}_loss": np.sum(losses * weights) / np.sum(weights),
        f"{task}_accuracy": np.sum(correct * weights) / np.sum(weights),
    }


# --- the update ----------------------------------------------------------------------------------


def algorithm_1(masks, gradients, count):
    """One update of Algorithm 1: clears `count` ones, smallest `|gradient|` first, then by place.

    NaNs come after everything.
    """
    flat = np.concatenate([np.ravel(m) for m in masks])
    magnitude = np.abs(np.concatenate([np.ravel(g) for g in gradients]))
    order = np.lexsort((np.arange(flat.size), magnitude))
    flat[[i for i in order if flat[i]][:count]] = False
    return split_like(flat, masks)


def split_like(flat, arrays):
    ends = np.cumsum([a.size for a in arrays])[:-1]
    return [x.reshape(a.shape) for x, a in zip(np.split(flat, ends), arrays, strict=True)]


def clip_by_global_norm(gradients, limit):
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [g * min(1.0, limit / norm) for g in gradients], norm


def learning_rate(step, peak, warmup_steps, steps, power):
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * max(0.0, (steps - step) / (steps - warmup_steps)) ** power


class AdamW:
    """AdamW with decay apart from the gradient, and Keras' epsilon.

    Keras adds epsilon to the uncorrected second moment's root: Adam's paper, before section 2.1.
    """

    def __init__(self, weights, decays, beta_1, beta_2, epsilon, weight_decay):
        self.weights = [np.array(w, np.float64) for w in weights]
        self.decays = decays
        self.betas = (beta_1, beta_2)
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.m = [np.zeros_like(w) for w in self.weights]
        self.v = [np.zeros_like(w) for w in self.weights]
        self.t = 0

    def apply(self, gradients, rate):
        self.t += 1
        b1, b2 = self.betas
        for i, g in enumerate(gradients):
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            correction = np.sqrt(1 - b2**self.t) / (1 - b1**self.t)
            update = correction * self.m[i] / (np.sqrt(self.v[i]) + self.epsilon)
            decay = self.weight_decay * self.weights[i] if self.decays[i] else 0.0
            self.weights[i] = self.weights[i] - rate * (update + decay)


class Lamb(AdamW):
    """LAMB (You et al. 2020, algorithm 2) with decay apart from the step."""

    def apply(self, gradients, rate):
        self.t += 1
        b1, b2 = self.betas
        for i, g in enumerate(gradients):
            if self.decays[i]:
                self.weights[i] = self.weights[i] * (1 - rate * self.weight_decay)
            self.m[i] = b1 * self.m[i] + (1 - b1) * g
            self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
            m, v = self.m[i] / (1 - b1**self.t), self.v[i] / (1 - b2**self.t)
            step = m / (np.sqrt(v) + self.epsilon)
            length, own = np.linalg.norm(step.ravel()), np.linalg.norm(self.weights[i].ravel())
            scale = own / length if own > 0 and length > 0 else 1.0
            self.weights[i] = self.weights[i] - rate * scale * step


class Lion(AdamW):
    """Lion (Chen et al. 2023, algorithm 2)."""

    def apply(self, gradients, rate):
        b1, b2 = self.betas
        for i, g in enumerate(gradients):
            if self.decays[i]:
                self.weights[i] = self.weights[i] * (1 - rate * self.weight_decay)
            self.weights[i] = self.weights[i] - rate * np.sign(b1 * self.m[i] + (1 - b1) * g)
            self.m[i] = b2 * self.m[i] + (1 - b2) * g


class Adafactor(AdamW):
    """Adafactor (Shazeer and Stern 2018, algorithms 4 to 6) with the paper's constants."""

    def __init__(self, weights, decays, weight_decay):
        super().__init__(weights, decays, 0, 0, 0, weight_decay)
        self.rows = [np.zeros(w.shape[:-1]) for w in self.weights]
        self.columns = [np.zeros(w.shape[:-2] + w.shape[-1:]) for w in self.weights]

    def apply(self, gradients, rate):
        self.t += 1
        kept = 1 - self.t**-0.8
        for i, g in enumerate(gradients):
            if self.decays[i]:
                self.weights[i] = self.weights[i] * (1 - rate * self.weight_decay)
            square = g**2 + 1e-30
            if g.ndim < 2:
                self.v[i] = kept * self.v[i] + (1 - kept) * square
                second = self.v[i]
            else:
                self.rows[i] = kept * self.rows[i] + (1 - kept) * square.mean(-1)
                self.columns[i] = kept * self.columns[i] + (1 - kept) * square.mean(-2)
                rows = self.rows[i] / self.rows[i].mean(-1, keepdims=True)
                second = rows[..., None] * self.columns[i][..., None, :]
            step = g / np.sqrt(second)
            step = step / max(1.0, np.sqrt(np.mean(step**2)))
            length = max(1e-3, np.sqrt(np.mean(self.weights[i] ** 2)))
            self.weights[i] = self.weights[i] - min(rate, self.t**-0.5) * length * step
