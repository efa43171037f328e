"""The matrix products of a joint step alone: the floor of its time on this machine.

Whatever else a step does, it cannot take less time than its products, unless it makes fewer.
"""

import tensorflow as tf

from keras_vitbert.model.flops import TRAINING, image_flops, text_flops


def joint_step_flops(network, images, texts, length, predictions):
    """The operations of a joint step without teachers.

    Args:
        network: `PreTrainingNetwork`.
        images, texts: int, of a step.
        length, predictions: int, tokens and masked tokens of a text.
    """
    image = image_flops(network.backbone, network.num_classes)
    return TRAINING * (images * image + texts * text_flops(network.backbone, length, predictions))


def joint_products(model, images, texts, length, predictions, dtype):
    """The products of one block and of the masked-LM head, one after another.

    They have the same shapes as in a step, without padding, forward and backward. All tokens of a
    modality go into one product with a kernel.

    Args:
        model: mapping, the `model` section of a config.
        images, texts: int, of a step.
        length, predictions: int, tokens and masked tokens of a text.
        dtype: str, of the operands.

    Returns:
        (callable with an ignored argument that runs them and waits; int, their operations).
    """
    width, wide, heads = (model[key] for key in ("hidden_dim", "intermediate_dim", "num_heads"))
    patches = (model["image_size"] // model["patch_size"]) ** 2
    shapes = []
    for count, tokens in ((images, patches + 1), (texts, length)):
        rows = count * tokens
        shapes += [(rows, width, width)] * 4 + [(rows, width, wide), (rows, wide, width)]
        of_head = width // heads
        shapes += [(count * heads, tokens, of_head, tokens)]  # scores
        shapes += [(count * heads, tokens, tokens, of_head)]  # the sum of values
    shapes.append((texts * predictions, width, model["vocabulary_size"]))
    return _runner([shape for shape in shapes if all(shape)], dtype)


def _runner(shapes, dtype):
    operands, operations = [], 0
    for *batch, m, k, n in shapes:
        # Random values: zeros may be multiplied faster.
        sides = ((m, k), (k, n), (m, n))
        operands.append([tf.cast(tf.random.normal((*batch, *side)), dtype) for side in sides])
        operations += TRAINING * 2 * m * k * n * (batch[0] if batch else 1)

    @tf.function
    def products(operands):
        done = tf.zeros((), dtype)
        for x, w, g in operands:
            for a, b, order in (
                (x, w, {}),
                (g, w, {"transpose_b": True}),
                (x, g, {"transpose_a": True}),
            ):
                # One after another: two at once would only share the cores. An entry of each is
                # used, because a product that nothing uses would not be computed.
                with tf.control_dependencies([done]):
                    product = tf.matmul(a, b, **order)
                    done += tf.reshape(product, [-1])[0]
        return done

    return lambda _: products(operands).numpy(), operations
