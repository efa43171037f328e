"""When the gradient masks are refreshed (Algorithm 1)."""

from typing import Any

import keras
import numpy as np

from keras_vitbert.merging.entries import cleared_after
from keras_vitbert.merging.weighting import at_least

_SHARE = 0.01  # the paper updates its masks every 10,000 of 1,000,000 steps


class MaskSchedule(keras.callbacks.Callback):
    """Algorithm 1's schedule: a refresh of the masks every `interval` steps.

    The refresh happens inside the next training step and uses that step's text gradient. If that
    step is not applied, or the masks go back to older ones, the step that follows clears what is
    missing. Once the final sparsity is reached, there are no more refreshes, unless the masks are
    drawn again at each refresh.

    Args:
        interval: int, `mask_update_interval`; None for 1 % of the steps of `fit`, as in the paper.
        mask_ratio: float, final sparsity.
        mask_ratio_per_update: float, growth of the sparsity per update.

    Raises:
        ValueError: `interval` is below 1 or a ratio is not in [0, 1]; or, when training begins,
            `interval` is None and the number of steps is unknown.
    """

    model: Any
    params: Any

    def __init__(self, interval=None, mask_ratio=0.5, mask_ratio_per_update=0.1):
        super().__init__()
        self.interval = interval if interval is None else at_least(1, interval, "interval")
        self.schedule = {
            "mask_ratio": mask_ratio,
            "mask_ratio_per_update": mask_ratio_per_update,
        }
        for name, value in self.schedule.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} is not in [0, 1]")
        self._every = self.interval  # steps
        self._settled = None  # the number of updates for which the masks need nothing more

    def on_train_begin(self, logs=None):
        self._settled = None
        if self.interval is None:
            if self.params["steps"] is None:
                raise ValueError(
                    "the number of steps is unknown; set steps_per_epoch of fit, or interval of "
                    "MaskSchedule"
                )
            steps = self.params["epochs"] * self.params["steps"]
            self._every = max(1, round(_SHARE * steps))

    def on_train_batch_begin(self, batch, logs=None):
        updates = self.model.step // self._every
        if self._settled == updates and not self.model.bad_steps:
            return
        mask = self.model.merge.mask
        wanted = cleared_after(updates, mask.size, **self.schedule)
        counts = mask.counts(wanted, updates) if wanted else 0
        if np.any(counts):
            self.model.request_probe(counts)
        else:
            self._settled = updates
