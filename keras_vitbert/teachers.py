"""Teachers of the distillation: networks that only look."""

from keras_vitbert.command_line import UserError
from keras_vitbert.loading import load_network
from keras_vitbert.network import image_inputs, text_inputs
from keras_vitbert.run_folder import RunFolder
from pipelines.text.vocabularies import vocabulary_hash


class Teachers:
    """A separately trained ViT and BERT, run in inference mode and without gradients.

    A plain object and no Keras layer, so that a trainer that holds it neither trains nor saves
    the teachers' weights.

    Args:
        image: `PreTrainingNetwork` with an image side, or None.
        text: `PreTrainingNetwork` with a text side, or None.
    """

    def __init__(self, image=None, text=None):
        self.image = image
        self.text = text

    def __call__(self, batch):
        """The teachers' logits for a batch, by the names that the student uses.

        Must be called outside the student's gradient tapes.
        """
        logits = {}
        if self.image is not None and "images" in batch:
            logits.update(self.image(image_inputs(batch), training=False))
        if self.text is not None and "token_ids" in batch:
            logits.update(self.text(text_inputs(batch), training=False))
        return logits


def load_teacher(kind, path, config, data):
    """A teacher from the folder of a finished run, checked against the student.

    Args:
        kind: str, `image` or `text`.
        path: str, the folder.
        config: `ConfigDict` of the student.
        data: `keras_vitbert.data.Data` of the student.

    Returns:
        `PreTrainingNetwork`.

    Raises:
        UserError: there is no run, or its network does not see what the student sees.
    """
    network, record = load_network(path, config.dtype)
    if RunFolder(path).summary() is None:
        raise UserError(
            f"--{kind}_teacher={path}: holds a run that is not finished; run its command again"
        )
    _check(network, record, kind, path, config, data)
    return network


def _check(network, record, kind, path, config, data):
    """Refuses a teacher of another modality, other inputs or other outputs."""
    teacher, student = network.backbone, config.model
    flag = f"--{kind}_teacher={path}"
    if (teacher.image_size if kind == "image" else teacher.vocabulary_size) is None:
        raise UserError(f"{flag}: is a run of --variant={record['variant']}, which has no {kind}s")
    if kind == "image":
        if teacher.image_size != student.image_size:
            raise UserError(
                f"{flag}: takes images of {teacher.image_size} pixels, the student "
                f"{student.image_size}; set --config.model.image_size or give another teacher"
            )
        if network.num_classes != student.num_classes:
            raise UserError(
                f"{flag}: knows {network.num_classes} classes, the student "
                f"{student.num_classes}; give another teacher"
            )
    else:
        if record["vocabulary_sha256"] != vocabulary_hash(data.vocabulary):
            raise UserError(
                f"{flag}: has another vocabulary ({path}/vocabulary.txt); give a teacher that "
                "was trained with the student's"
            )
        if teacher.vocabulary_size != student.vocabulary_size:
            raise UserError(
                f"{flag}: knows {teacher.vocabulary_size} tokens, the student "
                f"{student.vocabulary_size}; set --config.model.vocabulary_size or give another "
                "teacher"
            )
        if teacher.max_sequence_length < data.texts.length:
            raise UserError(
                f"{flag}: takes {teacher.max_sequence_length} tokens at most, the texts have "
                f"{data.texts.length}; give another teacher"
            )
