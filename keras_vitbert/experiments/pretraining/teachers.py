"""Opens the teachers of distillation and checks them against the student."""

import itertools

from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.trained.finding import RUN, WANTED, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.trained_model import first_difference
from keras_vitbert.training.distillation import Teacher
from pipelines.command_line import say


def load_teacher(kind, path, config, data):
    """Opens an existing teacher and checks it against the student.

    Args:
        kind: str, `image` or `text`.
        path: str, the folder of a finished run, or anything that `trained.finding.find` takes.
        config: `Pretraining` of the student.
        data: `keras_vitbert.experiments.pretraining.data.Data` of the student.

    Returns:
        `PreTrainingNetwork` of a run, else `Teacher`.

    Raises:
        ValueError: there is no such teacher, it is damaged, or its inputs or outputs differ from
            the student's.
    """
    try:
        source = find(path)
        if kind == "image":
            return _image_teacher(source, path, config, data)
        return _text_teacher(source, path, config, data)
    except ValueError as error:
        raise ValueError(f"{kind}_teacher: {error}") from error


def _opened(kind, source, path, config):
    """The `TrainedModel` of a teacher; it must have the modality and a head."""
    trained = open_source(source, config.dtype)
    if source.kind != RUN:
        if {"image": "image", "text": "mlm"}[kind] not in trained.heads:
            lacking = {"image": "no image classifier", "text": "no masked-LM head"}[kind]
            raise ValueError(f"{path}: is {source.kind} and has {lacking}; {WANTED}")
        return trained
    backbone = trained.backbone
    if not trained.summary:
        raise ValueError(f"{path}: holds a run that is not finished; run its command again")
    if (backbone.image_size if kind == "image" else backbone.vocabulary_size) is None:
        raise ValueError(f"{path}: is a run of variant {trained.name}, which has no {kind}s")
    return trained


def _network_of(trained):
    """The network of a model that is not from a run, as a `PreTrainingNetwork`."""
    if isinstance(trained.network, PreTrainingNetwork):
        return trained.network
    # A preset of this project holds one head.
    kinds = {name: head.kind for name, head in trained.heads.items()}
    classes = trained.heads["image"].num_classes if "image" in kinds else None
    network = PreTrainingNetwork(trained.backbone, classes, kinds, name="network")
    for name, head in trained.heads.items():
        getattr(network, f"{name}_head").set_weights(head.get_weights())
    return network


def _image_teacher(source, path, config, data):
    student, is_run = config.model, source.kind == RUN
    trained = _opened("image", source, path, config)
    size = trained.backbone.image_size
    if is_run and size != student.image_size:  # other teachers resize their images
        raise ValueError(
            f"{path}: takes images of {size} pixels, the student of {student.image_size}; set "
            "model.image_size or give another teacher"
        )
    network = trained.network if is_run else _network_of(trained)
    if network.num_classes != student.num_classes:
        raise ValueError(
            f"{path}: has {network.num_classes} classes, the student {student.num_classes}; give "
            "another teacher"
        )
    _check_classes(trained.classes, path, data, quiet=is_run)
    return network if is_run else Teacher(network)


def _check_classes(theirs, path, data, quiet):
    """Refuses classes in another order; says so if only their number can be checked."""
    ours = data.classes
    if ours is None or theirs is None:
        if not quiet:
            whose = "the teacher has no class names"
            if theirs is not None:
                whose = "there is no classes.txt beside the training images"
            say(f"{path}: {whose}; only the number of classes was checked")
        return
    index = first_difference(ours, theirs)
    if index is not None:
        raise ValueError(
            f"{path}: has other classes or another order: class {index} is {theirs[index]!r}, the "
            f"student's {ours[index]!r}; give another teacher, or fix classes.txt beside the "
            "training images"
        )


def _text_teacher(source, path, config, data):
    wanted, is_run = config.model.vocabulary_size, source.kind == RUN
    trained = _opened("text", source, path, config)
    for index, (our, their) in enumerate(
        itertools.zip_longest(data.vocabulary, trained.vocabulary)
    ):
        if our != their:
            ours_is, theirs_is = ("none" if x is None else repr(x) for x in (our, their))
            raise ValueError(
                f"{path}: has another vocabulary: token {index} is {theirs_is}, the student's "
                f"{ours_is}; give the teacher's as data.vocabulary, with texts tokenized "
                "by it, or another teacher"
            )
    size, longest = trained.backbone.vocabulary_size, trained.backbone.max_sequence_length
    if size < wanted or (is_run and size > wanted):  # other teachers cut off surplus logits
        raise ValueError(
            f"{path}: has {size} tokens, the student {wanted}; set model.vocabulary_size={size}"
        )
    if longest < data.texts.length:
        raise ValueError(
            f"{path}: takes at most {longest} tokens, the texts have {data.texts.length}; give "
            "another teacher"
        )
    if is_run:
        return trained.network
    network = _network_of(trained)
    if network.nsp_head is None:
        say(f"{path}: has no next-sentence head; it teaches masked-LM only")
    return Teacher(network, wanted)
