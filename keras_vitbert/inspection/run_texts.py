"""The settings of a run in TensorBoard: as texts, and as a row of the HParams tab.

RUN/validation is the run's session in that tab: its settings appear beside the last point of each
of its curves. So `tensorboard --logdir=runs` compares all runs below `runs`, teachers included. On
a fine-tuned run it compares the trials. TensorBoard shows the settings of a run's first start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2, summary

from keras_vitbert.configs.sections import flatten
from pipelines.text_tables import markdown_table

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from keras_vitbert.configs.run import Experiment
    from keras_vitbert.runs.run_folder import RunFolder


class RunTexts(keras.callbacks.Callback):
    """Writes the configuration and the layers as texts once, and the settings at every start.

    `about` are settings beside those of the config, such as `{"variant": "vitbert"}`.
    """

    def __init__(self, folder: RunFolder, about: dict[str, Any], config: Experiment):
        super().__init__()
        self.folder = folder
        self.settings = {**about, **flatten(config)}
        self._begun = False

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self._begun or not self.folder.writes:  # `fit` begins again after a divergence
            return
        self._begun = True
        trainer: Any = self.model  # of pre-training or fine-tuning
        writer = self.folder.summary_writer("train")
        if trainer.step == 0 and writer:
            rows = [[k, f"`{v}`" if v != "" else ""] for k, v in self.settings.items()]
            with writer.as_default(step=0):
                tf.summary.text("configuration", markdown_table(["setting", "value"], rows))
                tf.summary.text("model", layers_text(trainer.network))
            writer.flush()
        # Without a name, TensorBoard names the session after its folder.
        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self.settings.items()
        }
        _write_session(self.folder, summary.session_start_pb(settings))


def finish_session(folder: RunFolder, succeeded: bool = True) -> None:
    """Closes the run's session in the HParams tab, as failed if the run diverged."""
    status = "STATUS_SUCCESS" if succeeded else "STATUS_FAILURE"
    _write_session(folder, summary.session_end_pb(api_pb2.Status.Value(status)))  # pyright: ignore[reportAttributeAccessIssue]


def layers_text(network: keras.Model) -> str:
    """Keras' table of the layers and their parameters, as Markdown."""
    lines = []
    network.summary(line_length=100, expand_nested=True, print_fn=lines.append)
    return "\n".join(["```", *lines, "```"])


def _write_session(folder: RunFolder, message: Message) -> None:
    if writer := folder.summary_writer("validation"):
        with writer.as_default(step=0):
            tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
        writer.flush()
