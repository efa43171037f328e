"""What a run is made of, in TensorBoard: texts, and a row in the table of its HParams tab.

RUN/logs/hparams is the run's session there: its settings, and in the end its last validation. So
`tensorboard --logdir=runs` compares all the runs below `runs`, teachers included. Of a run that was
started several times TensorBoard shows the settings of the first.
"""

import os

import keras
import tensorflow as tf

from keras_vitbert.configs.overrides import flatten

SESSION = "hparams"


class RunTexts(keras.callbacks.Callback):
    """Writes the configuration and the layers as texts, once, and the settings at every start.

    Args:
        folder: `RunFolder`.
        about: dict of what else the run is made with, such as `{"variant": "vitbert"}`.
        config: `ConfigDict`.
    """

    def __init__(self, folder, about, config):
        super().__init__()
        self.folder = folder
        self.settings = {**about, **flatten(config)}
        self._begun = False

    def on_train_begin(self, logs=None):
        if self._begun or not self.folder.writes:
            return
        self._begun = True
        if self.model.step == 0:
            writer = self.folder.summary_writer("train")
            with writer.as_default(step=0):
                tf.summary.text("configuration", settings_table(self.settings))
                tf.summary.text("model", layers_table(self.model.network))
            writer.flush()
        _write_session(self.folder, _session_start(self.settings))


def finish_session(folder, validation, step):
    """Closes the run's session: its last validation is shown beside its settings.

    Args:
        folder: `RunFolder`.
        validation: dict of name to float.
        step: int.
    """
    from tensorboard.plugins.hparams import api_pb2, summary

    def write():
        for name, value in validation.items():
            tf.summary.scalar(f"validation/{name}", value, step=step)

    if folder.writes:
        _write_session(folder, summary.session_end_pb(api_pb2.STATUS_SUCCESS), write)


def settings_table(settings):
    """Settings as a Markdown table; `settings` is a flat dict."""
    return _table(
        ["setting", "value"], [[k, f"`{v}`" if v != "" else ""] for k, v in settings.items()]
    )


def layers_table(network):
    """The layers of a network that have weights, as a Markdown table with their parameters."""
    rows = []

    def add(layer, path):
        """A row a layer of its own; what Keras knows only as a bundle of others is opened."""
        for inner in layer.layers:
            name = f"{path}{inner.name}"
            if isinstance(inner, keras.Model):
                add(inner, f"{name}/")
            elif inner.count_params():
                rows.append([name, type(inner).__name__, f"{inner.count_params():,}"])

    add(network, "")
    return _table(["layer", "type", "parameters"], rows) + (
        f"\n\n{network.count_params():,} parameters in all"
    )


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _session_start(settings):
    """The session's settings; TensorBoard names it by its folder where it has no other name."""
    from tensorboard.plugins.hparams import summary

    return summary.session_start_pb(
        {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings.items()
        }
    )


def _write_session(folder, summary, also=lambda: None):
    """Adds to the session's folder, in a file of its own."""
    writer = tf.summary.create_file_writer(os.path.join(folder.logs, SESSION))
    with writer.as_default(step=0):
        tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        also()
    writer.close()
