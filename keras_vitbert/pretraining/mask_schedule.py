"""When the gradient masks are refreshed (Algorithm 1)."""

import keras

from keras_vitbert.training.merging import cleared_after


class MaskSchedule(keras.callbacks.Callback):
    """Algorithm 1's schedule: a refresh of the masks every `interval` steps.

    The refresh happens inside the next training step and uses that step's text gradient. Once the
    final sparsity is reached, there are no more refreshes.

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

    def on_train_batch_begin(self, batch, logs=None):
        updates, rest = divmod(self.model.step, self.interval)
        if updates and not rest:
            size = self.model.merge.size
            clear = cleared_after(updates, size, **self.schedule)
            clear -= cleared_after(updates - 1, size, **self.schedule)
            if clear:
                self.model.request_probe(clear)
