"""What happens between the steps of a training."""

from keras_vitbert.runs import callbacks


class Model:
    """What the callbacks ask of a trainer."""

    def __init__(self):
        self.step, self.steps_per_execution, self.traced = 0, 1, False


def test_throughput_leaves_out_steps_that_were_traced(monkeypatch):
    """The first of each kind; and what lies between the steps."""
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    throughput = callbacks.Throughput(images_per_step=8, tokens_per_step=100)
    throughput.set_model(Model())
    assert throughput.rates() == {"images_per_second": 0.0, "tokens_per_second": 0.0}
    for traced, seconds in ((True, 50), (False, 2), (True, 70), (False, 3), (False, 5)):
        now[0] += 1000  # validation, say
        throughput.model.traced = traced
        logs = {}
        throughput.on_train_batch_begin(0)
        now[0] += seconds
        throughput.on_train_batch_end(0, logs)
    # Three steps in 2 + 3 + 5 seconds.
    assert logs == {"images_per_second": 2.4, "tokens_per_second": 30.0}
