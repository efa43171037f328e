"""In which steps gradients are looked at, and what TensorBoard is told of them."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_vitbert.inspection.callbacks import GradientProbe
from keras_vitbert.runs.run_folder import RunFolder

VALUES = {"cosine": 0.25, "norm_ratio": 2.0, "opposite_sign": 0.5, "text_norm": 3.0}
VALUES["image_norm"] = 1.5


class Model:
    """What the callback asks of a trainer."""

    def __init__(self, executed, buckets):
        self.step, self.steps_per_execution = 0, executed
        self.probed = []
        self.conflict = types.SimpleNamespace(
            values=lambda: {"block_0": VALUES, "all": {**VALUES, "cosine": self.step / 100}},
            buckets=lambda: buckets,
        )

    def request_gradient_stats(self):
        self.probed.append(self.step)


def train(folder, interval, steps, executed=1, begin=0, buckets=None):
    model = Model(executed, buckets or {})
    model.step = begin
    probe = GradientProbe(folder, interval, steps)
    probe.set_model(model)
    while model.step < steps:
        probe.on_train_batch_begin(0)
        model.step += executed
        probe.on_train_batch_end(0)
    return model.probed


@pytest.mark.parametrize("interval", [1, 3, 4, 7, 100])
@pytest.mark.parametrize(("executed", "begin"), [(1, 0), (1, 5), (2, 0), (4, 8)])
def test_steps_that_are_looked_at(tmp_path, interval, executed, begin):
    """Executions in which a multiple of the interval lies, and the last."""
    folder = RunFolder(str(tmp_path), writes=False)
    expected = [
        start
        for start in range(begin, 20, executed)
        if any(
            step % interval == 0 or step == 20 for step in range(start + 1, start + executed + 1)
        )
    ]
    assert train(folder, interval, 20, executed, begin) == expected
    assert not list(tmp_path.iterdir())


def test_what_tensorboard_is_told(tmp_path):
    rows = np.array([[-1.0, 0.0, 3.0], [0.0, 1.0, 5.0]])
    folder = RunFolder(str(tmp_path))
    train(folder, 4, 10, executed=2, buckets={("block_0", "text"): tf.constant(rows)})
    events = EventAccumulator(str(tmp_path / "train"), {"tensors": 0}).Reload()
    tags = {f"gradient/gradient_{name}" for name in ("cosine", "norm_ratio", "opposite_sign")}
    tags |= {"gradient/text_gradient_norm", "gradient/image_gradient_norm"}
    tags |= {"gradient_conflict/blocks", "gradients/text/block_0"}
    assert set(events.Tags()["tensors"]) == tags

    def recorded(tag):
        return {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}

    # The first step of each execution is looked at, and it is known when the execution is done.
    found = recorded("gradient/gradient_cosine")
    assert found == {3: pytest.approx(0.04), 7: pytest.approx(0.08), 9: pytest.approx(0.1)}
    assert recorded("gradient/gradient_opposite_sign") == dict.fromkeys((3, 7, 9), 0.5)
    for buckets in recorded("gradients/text/block_0").values():
        np.testing.assert_array_equal(buckets, rows)
