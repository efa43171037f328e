"""Opens the teachers of distillation and checks them against the student."""

import itertools

from keras_vitbert.importing.class_names import first_difference
from keras_vitbert.importing.image_teachers import load_image_teacher
from keras_vitbert.importing.sources import RUN
from keras_vitbert.importing.text_teachers import load_text_teacher
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from pipelines.command_line import UserError, say


def load_teacher(kind, path, config, data):
    """Opens an existing teacher and checks it against the student.

    Args:
        kind: str, `image` or `text`.
        path: str, the folder of a finished run, or anything that `trained.finding.find` takes.
        config: `ConfigDict` of the student.
        data: `keras_vitbert.pretraining.data.Data` of the student.

    Returns:
        A network that is called like `PreTrainingNetwork` and returns its modality's logits.

    Raises:
        UserError: there is no such teacher, it is damaged, or its inputs or outputs differ from
            the student's.
    """
    try:
        source = find(path)
        if kind == "image":
            return _image_teacher(source, path, config, data)
        return _text_teacher(source, path, config, data)
    except UserError as error:
        raise UserError(f"--{kind}_teacher={error}") from error


def _finished_run(kind, source, path, config):
    trained = open_source(source, config.dtype)
    backbone = trained.backbone
    if not trained.summary:
        raise UserError(f"{path}: holds a run that is not finished; run its command again")
    if (backbone.image_size if kind == "image" else backbone.vocabulary_size) is None:
        raise UserError(
            f"{path}: is a run of --variant={trained.record['variant']}, which has no {kind}s"
        )
    return trained


def _image_teacher(source, path, config, data):
    student, is_run = config.model, source.kind == RUN
    if is_run:
        trained = _finished_run("image", source, path, config)
        teacher, classes, size = trained.network, trained.classes, trained.backbone.image_size
        if size != student.image_size:  # others resize what they get
            raise UserError(
                f"{path}: takes images of {size} pixels, the student of {student.image_size}; set "
                "--config.model.image_size or give another teacher"
            )
    else:
        teacher = load_image_teacher(source, config.dtype)
        classes = teacher.labels
    if teacher.num_classes != student.num_classes:
        raise UserError(
            f"{path}: has {teacher.num_classes} classes, the student {student.num_classes}; give "
            "another teacher"
        )
    _check_classes(classes, path, data, quiet=is_run)
    return teacher


def _check_classes(theirs, path, data, quiet):
    """Refuses classes in another order; says so if only their number can be checked."""
    ours = data.classes
    if ours is None or theirs is None:
        if not quiet:
            whose = "the teacher has no class names"
            if theirs is not None:
                whose = "there is no classes.txt beside the training images"
            say(f"--image_teacher={path}: {whose}; only the number of classes was checked")
        return
    index = first_difference(ours, theirs)
    if index is not None:
        raise UserError(
            f"{path}: has other classes or another order: class {index} is {theirs[index]!r}, the "
            f"student's {ours[index]!r}; give another teacher, or fix classes.txt beside the "
            "training images"
        )


def _text_teacher(source, path, config, data):
    wanted, is_run = config.model.vocabulary_size, source.kind == RUN
    if is_run:
        trained = _finished_run("text", source, path, config)
        teacher, vocabulary, sizes = trained.network, trained.vocabulary, trained.backbone
    else:
        teacher = sizes = load_text_teacher(source, config.dtype, wanted)
        vocabulary = teacher.vocabulary
    for index, (our, their) in enumerate(itertools.zip_longest(data.vocabulary, vocabulary)):
        if our != their:
            ours_is, theirs_is = ("none" if x is None else repr(x) for x in (our, their))
            raise UserError(
                f"{path}: has another vocabulary: token {index} is {theirs_is}, the student's "
                f"{ours_is}; give the teacher's as --config.data.vocabulary, with texts tokenized "
                "by it, or another teacher"
            )
    size, longest = sizes.vocabulary_size, sizes.max_sequence_length
    if size < wanted or (is_run and size > wanted):  # others cut off what the student has not
        raise UserError(
            f"{path}: has {size} tokens, the student {wanted}; set "
            f"--config.model.vocabulary_size={size}"
        )
    if longest is not None and longest < data.texts.length:
        raise UserError(
            f"{path}: takes at most {longest} tokens, the texts have {data.texts.length}; give "
            "another teacher"
        )
    if not (is_run or teacher.has_next_sentence):
        say(f"--text_teacher={path}: has no next-sentence head; it teaches masked-LM only")
    return teacher
