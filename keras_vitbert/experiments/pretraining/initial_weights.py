"""Weights that pre-training starts from instead of random ones."""

from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.pretraining.data import Data
from keras_vitbert.model.pretraining_network import PreTrainingNetwork, build_network
from keras_vitbert.model.transfer import transfer, transfer_heads
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel, first_difference
from pipelines.command_line import say


def open_initial(path: str, config: Pretraining, data: Data) -> TrainedModel:
    """Opens anything that `keras_vitbert.load` takes, and checks that its weights fit a run."""
    try:
        trained, variant = load(path), config.variant_spec
        if variant.text and trained.vocabulary not in (None, data.vocabulary):
            raise ValueError(
                "has another vocabulary; give it as data.vocabulary, with texts tokenized by it"
            )
        network = build_network(config.model.to_dict(), images=variant.images, text=variant.text)
        done = start_from(trained, network, data.classes)
    except ValueError as error:
        raise ValueError(f"initial_weights={path}: {error}") from error
    say(f"starts from {path}: {', '.join(f'{part} {how}' for part, how in done.items())}")
    return trained


def start_from(
    trained: TrainedModel, network: PreTrainingNetwork, classes: list[str] | None = None
) -> dict[str, str]:
    """Copies what fits from a trained model: its backbone, and the heads of another project.

    The heads of a run start fresh. An image head is copied if it is for the same `classes`.

    Returns:
        For each part of the network `kept`, `interpolated` or `fresh`.
    """
    done = transfer(trained.backbone, network.backbone)
    if not isinstance(trained.network, PreTrainingNetwork) or trained.record:
        return done
    names, theirs = ["mlm_head", "nsp_head"], trained.classes
    if classes and theirs and len(classes) == len(theirs):
        names += ["image_head"] if first_difference(classes, theirs) is None else []
    return done | dict.fromkeys(transfer_heads(trained.network, network, names), "kept")
