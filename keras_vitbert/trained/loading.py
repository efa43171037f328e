"""Trained networks back from the folders of their runs."""

from keras_vitbert.configs import variants
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.command_line import UserError


def load_network(path, dtype="float32"):
    """The trained network of a run's folder and the run's record (the content of config.json).

    Args:
        path: str, a folder that `pretrain` wrote.
        dtype: a Keras dtype policy to run it in.

    Raises:
        UserError: there is no run, or no checkpoint in it.
    """
    folder = RunFolder(path)
    record = folder.record()
    checkpoint, _ = checkpoints.latest(folder.checkpoints)
    if record is None or checkpoint is None or "variant" not in record:
        raise UserError(f"{path} holds no run of keras_vitbert.pretrain; give a run's folder")
    variant = variants.VARIANTS[record["variant"]]
    network = build_network(
        record["config"]["model"], images=variant.images, text=variant.text, dtype=dtype
    )
    checkpoints.restore_network(checkpoint, network)
    return network, record
