"""Opens the teachers of distillation and checks them against the student."""

import itertools

from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.pretraining.data import Data
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.trained.finding import RUN, WANTED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.trained_model import TrainedModel, first_difference
from keras_vitbert.training.distillation import Teacher
from pipelines.command_line import say

_HEADS = {"image": "image", "text": "mlm"}


def load_teacher(kind: str, path: str, config: Pretraining, data: Data) -> Teacher:
    """Opens a teacher, `image` or `text`, and checks it against the student.

    It is a finished run, or anything else that `trained.finding.find` takes.
    """
    try:
        source = find(path)
        trained = open_source(source, config.dtype)
        if source.kind == RUN and not trained.summary:
            raise ValueError(f"{path}: holds a run that is not finished; run its command again")
        if _HEADS[kind] not in trained.heads:
            raise ValueError(f"{path}: has no {_HEADS[kind]} head; {WANTED}")
        network = _network_of(trained)
        if kind == "image":
            _check_classes(trained, path, config, data)
            return Teacher(network)
        _check_texts(trained, path, config, data)
        if network.nsp_head is None:
            say(f"{path}: has no next-sentence head; it teaches masked-LM only")
        return Teacher(network, config.model.vocabulary_size)
    except ValueError as error:
        raise ValueError(f"{kind}_teacher: {error}") from error


def _network_of(trained: TrainedModel) -> PreTrainingNetwork:
    """The network of a trained model, as a `PreTrainingNetwork`."""
    if isinstance(trained.network, PreTrainingNetwork):
        return trained.network
    # A preset of this project holds one head.
    kinds = {name: head.kind for name, head in trained.heads.items()}
    classes = trained.heads["image"].num_classes if "image" in kinds else None
    network = PreTrainingNetwork(trained.backbone, classes, kinds, name="network")
    for name, head in trained.heads.items():
        getattr(network, f"{name}_head").set_weights(head.get_weights())
    return network


def _check_classes(trained: TrainedModel, path: str, config: Pretraining, data: Data) -> None:
    """Refuses other classes, or another order; says so if only their number can be checked."""
    ours, theirs, wanted = data.classes, trained.classes, config.model.num_classes
    count = trained.heads["image"].num_classes
    if count != wanted:
        raise ValueError(f"{path}: has {count} classes, the student {wanted}")
    if ours is None or theirs is None:
        whose = "the teacher has no class names"
        if theirs is not None:
            whose = "there is no classes.txt beside the training images"
        say(f"{path}: {whose}; only the number of classes was checked")
        return
    index = first_difference(ours, theirs)
    if index is not None:
        raise ValueError(
            f"{path}: class {index} is {theirs[index]!r}, the student's {ours[index]!r}; give "
            "another teacher, or fix classes.txt beside the training images"
        )


def _check_texts(trained: TrainedModel, path: str, config: Pretraining, data: Data) -> None:
    """Refuses other tokens, or fewer, or shorter texts."""
    pairs = itertools.zip_longest(data.vocabulary or [], trained.vocabulary or [])
    for index, (our, their) in enumerate(pairs):
        if our != their:
            raise ValueError(
                f"{path}: has another vocabulary: token {index} is {their!r}, the student's "
                f"{our!r}; give the teacher's as data.vocabulary, with texts tokenized by it"
            )
    backbone, wanted = trained.backbone, config.model.vocabulary_size
    if backbone.vocabulary_size < wanted:
        raise ValueError(
            f"{path}: has {backbone.vocabulary_size} tokens, the student {wanted}: set "
            "model.vocabulary_size"
        )
    length = data.texts.length if data.texts is not None else 0
    if backbone.max_sequence_length < length:
        raise ValueError(
            f"{path}: takes at most {backbone.max_sequence_length} tokens, the texts have {length}"
        )
