"""Weights that pre-training starts from instead of random ones."""

from keras_vitbert.model.pretraining_network import PreTrainingNetwork, build_network
from keras_vitbert.model.transfer import transfer, transfer_heads
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import first_difference
from pipelines.command_line import say


def open_initial(path, config, data):
    """Opens a checkpoint, and checks that its weights fit a run.

    Args:
        path: str, anything that `keras_vitbert.load` takes.
        config: `keras_vitbert.configs.pretraining.Pretraining`.
        data: `keras_vitbert.experiments.pretraining.data.Data`.

    Returns:
        `TrainedModel`, which `start_from` copies into the network of the run.

    Raises:
        ValueError: there is no checkpoint, or it has another architecture or vocabulary.
    """
    try:
        trained, parts = load(path), config.parts
        if parts.text and trained.vocabulary not in (None, data.vocabulary):
            raise ValueError(
                f"{path}: has another vocabulary; give it as data.vocabulary, with texts "
                "tokenized by it"
            )
        network = build_network(config.model.to_dict(), images=parts.images, text=parts.text)
        done = start_from(trained, network, data.classes)
    except ValueError as error:
        text = str(error)
        raise ValueError(
            f"initial_weights: {text if text.startswith(path) else f'{path}: {text}'}"
        ) from error
    say(f"starts from {path}: {', '.join(f'{part} {how}' for part, how in done.items())}")
    return trained


def start_from(trained, network, classes=None):
    """Copies what fits from a trained model: its backbone, and the heads of another project.

    The heads of a run start fresh. An image head is copied if it is for the same classes.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.
        network: `PreTrainingNetwork`; its weights change.
        classes: list of str, those of the run's images in order; None if they are not known.

    Returns:
        dict of a part to `kept`, `interpolated` or `fresh`.
    """
    done = transfer(trained.backbone, network.backbone)
    if not isinstance(trained.network, PreTrainingNetwork) or trained.record:
        return done
    names = ["mlm_head", "nsp_head"]
    lists = classes, trained.classes
    if None not in lists and len(classes) == len(trained.classes):
        names += ["image_head"] if first_difference(*lists) is None else []
    return done | dict.fromkeys(transfer_heads(trained.network, network, names), "kept")
