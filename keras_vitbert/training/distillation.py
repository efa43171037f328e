"""Frozen teacher networks that a student is distilled from."""

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs


class Teachers:
    """A separately trained ViT and BERT, run in inference mode and without gradients.

    This is not a Keras layer, so a trainer that holds it neither trains nor saves the teachers.

    Args:
        image: `PreTrainingNetwork` with an image side, an `ImageTeacher`, or None.
        text: `PreTrainingNetwork` with a text side, a `TextTeacher`, or None.
    """

    def __init__(self, image=None, text=None):
        self.image = image
        self.text = text

    def __call__(self, batch):
        """The teachers' logits for a batch; call it outside the student's gradient tapes.

        Args:
            batch: dict, see `JointTrainer`.

        Returns:
            dict of logits by the names that the student uses; empty without teachers.
        """
        logits = {}
        if self.image is not None and "images" in batch:
            logits.update(self.image(image_inputs(batch), training=False))
        if self.text is not None and "token_ids" in batch:
            logits.update(self.text(text_inputs(batch), training=False))
        return logits
