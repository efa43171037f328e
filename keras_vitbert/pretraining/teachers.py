"""Opens the teachers of distillation and checks them against the student."""

import itertools

from keras_vitbert.importing.class_names import first_difference
from keras_vitbert.importing.image_teachers import load_image_teacher
from keras_vitbert.importing.sources import RUN
from keras_vitbert.importing.text_teachers import load_text_teacher
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from pipelines.command_line import UserError, say
from pipelines.text.wordpiece import vocabulary_hash


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
        if source.kind == RUN:
            return _load_run(kind, source, config, data)
        if kind == "image":
            teacher = load_image_teacher(source, config.dtype)
            _check_image_teacher(teacher, path, config, data)
        else:
            teacher = load_text_teacher(source, config.dtype, config.model.vocabulary_size)
            _check_text_teacher(teacher, path, config, data)
    except UserError as error:
        raise UserError(f"--{kind}_teacher={error}") from error
    return teacher


def _load_run(kind, source, config, data):
    trained = open_source(source, config.dtype)
    path, network = source.path, trained.network
    if not trained.summary:
        raise UserError(f"{path}: holds a run that is not finished; run its command again")
    _check_run(network, trained.record, kind, path, config, data)
    if kind == "image":
        _check_classes(trained.classes, path, data, quiet=True)
    return network


def _check_run(network, record, kind, path, config, data):
    """Refuses a run with another modality, other inputs or other outputs."""
    teacher, student = network.backbone, config.model
    if (teacher.image_size if kind == "image" else teacher.vocabulary_size) is None:
        raise UserError(f"{path}: is a run of --variant={record['variant']}, which has no {kind}s")
    if kind == "image":
        if teacher.image_size != student.image_size:
            raise UserError(
                f"{path}: takes images of {teacher.image_size} pixels, the student of "
                f"{student.image_size}; set --config.model.image_size or give another teacher"
            )
        _check_number(network.num_classes, path, config)
    else:
        if record["vocabulary_sha256"] != vocabulary_hash(data.vocabulary):
            raise UserError(
                f"{path}: has another vocabulary ({path}/vocabulary.txt); give a teacher that "
                "was trained with the student's"
            )
        if teacher.vocabulary_size != student.vocabulary_size:
            raise UserError(
                f"{path}: has {teacher.vocabulary_size} tokens, the student "
                f"{student.vocabulary_size}; set --config.model.vocabulary_size or give another "
                "teacher"
            )
        _check_length(teacher.max_sequence_length, path, data)


def _check_image_teacher(teacher, path, config, data):
    _check_number(teacher.num_classes, path, config)
    _check_classes(teacher.labels, path, data)


def _check_text_teacher(teacher, path, config, data):
    ours, theirs = data.vocabulary, teacher.vocabulary
    for index, (our, their) in enumerate(itertools.zip_longest(ours, theirs)):
        if our != their:
            ours_is, theirs_is = ("none" if x is None else repr(x) for x in (our, their))
            raise UserError(
                f"{path}: has another vocabulary: token {index} is {theirs_is}, the student's "
                f"{ours_is}; give the teacher's as --config.data.vocabulary, with texts tokenized "
                "by it, or another teacher"
            )
    if teacher.vocabulary_size < config.model.vocabulary_size:
        raise UserError(
            f"{path}: has {teacher.vocabulary_size} tokens, the student "
            f"{config.model.vocabulary_size}; set "
            f"--config.model.vocabulary_size={teacher.vocabulary_size}"
        )
    if teacher.max_sequence_length is not None:
        _check_length(teacher.max_sequence_length, path, data)
    if not teacher.has_next_sentence:
        _note("text", path, "has no next-sentence head; it teaches masked-LM only")


def _check_number(count, path, config):
    if count != config.model.num_classes:
        raise UserError(
            f"{path}: has {count} classes, the student {config.model.num_classes}; give another "
            "teacher"
        )


def _check_length(length, path, data):
    if length < data.texts.length:
        raise UserError(
            f"{path}: takes at most {length} tokens, the texts have {data.texts.length}; give "
            "another teacher"
        )


def _check_classes(theirs, path, data, quiet=False):
    """Refuses classes in another order; says so if only their number can be checked."""
    ours = data.classes
    if ours is None or theirs is None:
        if not quiet:
            whose = "the teacher has no class names"
            if theirs is not None:
                whose = "there is no classes.txt beside the training images"
            _note("image", path, f"{whose}; only the number of classes was checked")
        return
    index = first_difference(ours, theirs)
    if index is not None:
        raise UserError(
            f"{path}: has other classes or another order: class {index} is {theirs[index]!r}, the "
            f"student's {ours[index]!r}; give another teacher, or fix classes.txt beside the "
            "training images"
        )


def _note(kind, path, text):
    say(f"--{kind}_teacher={path}: {text}")
