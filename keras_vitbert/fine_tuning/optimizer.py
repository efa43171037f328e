"""The optimiser of a fine-tuning config, and how far from the input each variable is."""

from keras_vitbert.training.optimizers import (
    SGD,
    AdamW,
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    decays,
)


def build_optimizer(config, steps, network):
    """SGD or AdamW with the schedule of a fine-tuning config.

    Args:
        config: mapping, the `optimizer` section of `keras_vitbert.configs.fine_tuning`.
        steps: int, training steps in all.
        network: `Classifier`, whose trainable variables are trained.
    """
    variables = network.trainable_variables
    warmup_steps = min(round(config["warmup"] * steps), steps - 1)
    if config["schedule"] == "cosine":
        rate = WarmupCosineDecay(config["learning_rate"], warmup_steps, steps)
    else:
        rate = WarmupPolynomialDecay(config["learning_rate"], warmup_steps, steps, config["power"])
    average = {"use_ema": True, "ema_momentum": config["ema"]} if config["ema"] else {}
    if config["name"] == "sgd":
        optimizer = SGD(
            rate,
            momentum=config["momentum"],
            weight_decay=config["weight_decay"] or None,
            **average,
        )
    else:
        optimizer = AdamW(
            rate,
            weight_decay=config["weight_decay"],
            beta_1=config["beta_1"],
            beta_2=config["beta_2"],
            epsilon=config["epsilon"],
            **average,
        )
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not decays(v)])
    optimizer.build(variables)
    if config["layer_decay"] != 1:
        depths = layer_depths(network)
        top = max(depths)
        optimizer.scale_rates([config["layer_decay"] ** (top - depth) for depth in depths])
    return optimizer


def layer_depths(network):
    """How far from the input each trainable variable of a classifier is.

    Returns:
        list of int: 0 for the embedding, 1 for the first block and so on, one more than the last
        block for the closing norm and the head (Clark et al. 2020, as in ELECTRA).
    """
    blocks = {
        id(variable): depth
        for depth, block in enumerate(network.backbone.blocks, 1)
        for variable in block.variables  # those of LoRA do not count as the block's trainable ones
    }
    embedding = {id(variable) for variable in network.embedding.trainable_variables}
    last = len(network.backbone.blocks) + 1
    return [
        0 if id(variable) in embedding else blocks.get(id(variable), last)
        for variable in network.trainable_variables
    ]
