"""When the gradient masks are refreshed (Algorithm 1)."""

import keras
import numpy as np

from keras_vitbert.merging.entries import cleared_after


class MaskSchedule(keras.callbacks.Callback):
    """Algorithm 1's schedule: a refresh of the masks every `interval` steps.

    The refresh happens inside the next training step and uses that step's text gradient. If that
    step is not applied, or the masks go back to older ones, the step that follows clears what is
    missing. Once the final sparsity is reached, there are no more refreshes, unless the masks are
    drawn again at each refresh.

    Args:
        interval: int, `mask_update_interval`.
        mask_ratio: float, final sparsity.
        mask_ratio_per_update: float, growth of the sparsity per update.
    """

    def __init__(self, interval, mask_ratio, mask_ratio_per_update):
        super().__init__()
        self.interval = interval
        self.schedule = {
            "mask_ratio": mask_ratio,
            "mask_ratio_per_update": mask_ratio_per_update,
        }

        self._settled = None  # the number of updates for which the masks need nothing more

    def on_train_batch_begin(self, batch, logs=None):
        updates = self.model.step // self.interval
        if self._settled == updates and not self.model.bad_steps:
            return
        mask = self.model.merge.mask
        wanted = cleared_after(updates, mask.size, **self.schedule)
        counts = mask.counts(wanted, updates) if wanted else 0
        if np.any(counts):
            self.model.request_probe(counts)
        else:
            self._settled = updates
