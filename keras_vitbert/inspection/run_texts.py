"""The settings of a run in TensorBoard: as texts, and as a row of the HParams tab.

RUN/validation is the run's session in that tab: its settings appear beside the last point of each
of its curves. So `tensorboard --logdir=runs` compares all runs below `runs`, teachers included. On
a fine-tuned run it compares the trials. TensorBoard shows the settings of a run's first start.
"""

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2, summary

from keras_vitbert.configs.sections import flatten
from pipelines.text_tables import markdown_table


class RunTexts(keras.callbacks.Callback):
    """Writes the configuration and the layers as texts once, and the settings at every start.

    Args:
        folder: `RunFolder`.
        about: dict of settings outside the configuration, such as `{"variant": "vitbert"}`.
        config: `keras_vitbert.configs.run.Experiment`.
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
        # Without a name, TensorBoard names the session after its folder.
        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self.settings.items()
        }
        _write_session(self.folder, summary.session_start_pb(settings))


def finish_session(folder, succeeded=True):
    """Closes the run's session in the HParams tab.

    Args:
        folder: `RunFolder`.
        succeeded: bool; False if the run diverged.
    """
    if folder.writes:
        status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
        _write_session(folder, summary.session_end_pb(status))


def settings_table(settings):
    """Settings as a Markdown table.

    Args:
        settings: dict of name to value, flat.
    """
    return markdown_table(
        ["setting", "value"], [[k, f"`{v}`" if v != "" else ""] for k, v in settings.items()]
    )


def layers_table(network):
    """The layers with weights and their numbers of parameters, as a Markdown table.

    Args:
        network: `keras.Model`.
    """
    rows = []

    def add(layer, path):
        """Adds a row for each layer; a model among them is replaced by its own layers."""
        for inner in layer.layers:
            name = f"{path}{inner.name}"
            if isinstance(inner, keras.Model):
                add(inner, f"{name}/")
            elif inner.count_params():
                rows.append([name, type(inner).__name__, f"{inner.count_params():,}"])

    add(network, "")
    return markdown_table(["layer", "type", "parameters"], rows) + (
        f"\n\n{network.count_params():,} parameters in all"
    )


def _write_session(folder, summary):
    writer = folder.summary_writer("validation")
    with writer.as_default(step=0):
        tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=0)
    writer.flush()
