"""The optimiser of a fine-tuning config, and the depth of each variable for its layer decay."""

from keras_vitbert.training.optimizers import WarmupCosineDecay, WarmupPolynomialDecay, with_rate


def build_optimizer(config, steps, network):
    """Builds the optimiser of a fine-tuning config, with its schedule.

    Args:
        config: `keras_vitbert.configs.optimizers.FineTuningOptimizer`.
        steps: int, the steps of the whole training.
        network: `Classifier`, whose trainable variables are trained.

    Returns:
        `keras.optimizers.Optimizer`, built.
    """
    variables = network.trainable_variables
    warmup_steps = min(round(config.warmup * steps), steps - 1)
    if config.schedule == "cosine":
        rate = WarmupCosineDecay(config.learning_rate, warmup_steps, steps)
    else:
        rate = WarmupPolynomialDecay(config.learning_rate, warmup_steps, steps, config.power)
    optimizer = with_rate(config, rate, variables)
    if config.layer_decay != 1:
        depths = layer_depths(network)
        top = max(depths)
        optimizer.scale_rates([config.layer_decay ** (top - depth) for depth in depths])
    return optimizer


def layer_depths(network):
    """The depth of each trainable variable of a classifier.

    Args:
        network: `Classifier`.

    Returns:
        list of int: 0 for the embedding and its norm, 1 for the first block and so on, one more
        than the last block for the final norm and the head (Clark et al. 2020, as in ELECTRA).
    """
    backbone = network.backbone
    depths = {id(variable): 0 for variable in network.embedding.trainable_variables}
    if backbone.embedding_norm is not None:
        depths |= {id(variable): 0 for variable in backbone.embedding_norm.variables}
    for depth, block in enumerate(backbone.blocks, 1):
        # All variables: the block's trainable variables leave out those of LoRA.
        depths |= {id(variable): depth for variable in block.variables}
    last = len(backbone.blocks) + 1
    return [depths.get(id(variable), last) for variable in network.trainable_variables]
