"""Probes during training: what the encoder's features reveal of validation examples' labels."""

import numpy as np
from keras import ops

from keras_vitbert.inspection.probes import Features, probe
from keras_vitbert.inspection.validation_looks import ValidationLook
from keras_vitbert.inspection.value_files import write_values
from keras_vitbert.model.classifier import TEXT_INPUTS
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.model.whole_batches import on_whole_batches
from pipelines.status import doing

_LABELS = {"image": "image_labels", "text": "next_sentence_labels"}


class FeatureProbes(ValidationLook):
    """Probes frozen features: at the start, every `interval` steps, and at the end.

    The encoder sees a fixed set of validation examples, without dropout. Every other one trains the
    probes, the rest test them. The labels are the images' classes, and whether a text's second part
    follows the first. TensorBoard has the accuracies as `probe/image_ridge`,
    `probe/image_neighbours`, `probe/text_ridge` and `probe/text_neighbours`, and
    RUN/inspection/probes-STEP.npz the same; see `keras_vitbert.inspection.probes`.

    Arguments as in `ValidationLook`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._features = None

    @doing("probing features", "probing")
    def _show(self):
        found = self.features()  # on all workers
        if not self.folder.writes:
            return
        values = {
            f"{modality}_{kind}": accuracy
            for modality, (known, asked) in found.items()
            for kind, accuracy in probe(known, asked).items()
        }
        write_values(self.folder, "probes", self.model.step, **values)
        tags = {f"probe/{name}": accuracy for name, accuracy in values.items()}
        self.folder.log_scalars("validation", self.model.step, tags)

    def features(self):
        """The training and the test examples of each modality.

        Returns:
            dict of `image` and `text`, if the model has them, to a pair of `Features`.
        """
        if self._features is None:
            backbone, strategy = self.model.network.backbone, self.model.distribute_strategy
            self._features = on_whole_batches(self._of_share, backbone, strategy)
        parts = [self._features(batch) for batch in self._validation_batches()]
        found = {}
        for modality in parts[0]:
            columns = zip(*(part[modality] for part in parts), strict=True)
            values, labels, weights = map(np.concatenate, columns)
            values, labels = values[weights > 0], labels[weights > 0]
            known, asked = slice(0, None, 2), slice(1, None, 2)
            found[modality] = tuple(Features(values[s], labels[s]) for s in (known, asked))
        return found

    def _of_share(self, batch):
        """Features, labels and weights of a replica's examples: dict of a modality to a tuple."""
        backbone, found = self.model.network.backbone, {}
        for modality, label in _LABELS.items():
            if label not in batch:
                continue
            if modality == "image":
                outputs = backbone(image_inputs(batch), training=False, image_positions=1)
            else:
                inputs = {name: batch[name] for name in TEXT_INPUTS}
                outputs = backbone(inputs, training=False, text_positions=1)
            values = ops.cast(outputs[f"{modality}_sequence"][:, 0], "float32")
            found[modality] = values, batch[label], batch[f"{modality}_weights"]
        return found
