"""Weights that a pre-training begins with instead of random ones."""

import dataclasses
import sys

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.model.transfer import transfer
from keras_vitbert.trained.loading import load
from pipelines.command_line import UserError
from pipelines.text.wordpiece import vocabulary_hash


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """What fits into a run's backbone.

    Attributes:
        backbone: `ViTBertBackbone` of the run's shape. What nothing was given for is random in it,
            and is not given away.
        fresh: tuple of str, the embeddings that nothing was given for.
    """

    backbone: ViTBertBackbone
    fresh: tuple[str, ...]

    def give_to(self, backbone, strategy):
        """Copies the weights.

        Args:
            backbone: `ViTBertBackbone` of the run.
            strategy: `tf.distribute.Strategy` that it was made under.
        """
        with strategy.scope():
            for ours, theirs in zip(backbone.weights, self.backbone.weights, strict=True):
                if not set(ours.path.split("/")) & set(self.fresh):
                    ours.assign(theirs.value)


def open_initial(path, config, variant, data):
    """Opens weights and fits them to a run.

    Args:
        path: str, see `keras_vitbert.load`.
        config: `ConfigDict` of the run.
        variant: `keras_vitbert.configs.variants.Variant`.
        data: `keras_vitbert.pretraining.data.Data`.

    Returns:
        `InitialWeights`.

    Raises:
        UserError: there are none, or they are of another architecture or vocabulary.
    """
    try:
        trained = load(path)
        words = trained.vocabulary
        if variant.text and words and vocabulary_hash(words) != vocabulary_hash(data.vocabulary):
            raise UserError(
                f"{path}: has another vocabulary; give it as --config.data.vocabulary, and texts "
                "that were made with it"
            )
        network = build_network(config.model, images=variant.images, text=variant.text)
        done = transfer(trained.backbone, network.backbone)
    except UserError as error:
        text = str(error)
        raise UserError(
            f"--initial_weights={text if text.startswith(path) else f'{path}: {text}'}"
        ) from error
    print(
        f"begins with {path}: {', '.join(f'{part} {how}' for part, how in done.items())}",
        file=sys.stderr,
        flush=True,
    )
    return InitialWeights(
        network.backbone, tuple(part for part, how in done.items() if how == "fresh")
    )
