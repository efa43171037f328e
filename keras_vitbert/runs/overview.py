"""What a command found and what it will do, as a short table, before it does it."""

import keras

from pipelines.cores import available_cores
from tpu.devices import gpu_names, holder_of_weights

_CLASSES_SHOWN = 6


def table(rows):
    """Formats rows as text.

    Args:
        rows: list of (str, the subject; str, what is said about it). A row that continues the one
            above has an empty subject.

    Returns:
        str.
    """
    width = max(len(subject) for subject, _ in rows) + 2
    return "\n".join(f"  {subject:<{width}}{text}" for subject, text in rows)


def device_row(strategy, dtype):
    """Where training runs, and in which precision.

    Args:
        strategy: see `tpu.strategy.get_strategy`.
        dtype: str, the dtype policy.

    Returns:
        (str, str), a row of `table`.
    """
    holder = holder_of_weights(strategy)
    kind = {"tpu": "TPU", "host": f"CPU, {available_cores()} cores"}.get(holder)
    kind = kind or gpu_names()[0] or "GPU"
    replicas = strategy.num_replicas_in_sync
    many = f"{replicas} x " if replicas > 1 else ""
    by = "; JAX" if keras.backend.backend() == "jax" else ""
    return "device", f"{many}{kind}; {dtype}{by}"


def class_row(names, counts):
    """The classes of a split.

    Args:
        names: list of str.
        counts: int array `(classes,)`, examples of each; None if that is not known.

    Returns:
        (str, str), a row of `table`.
    """
    shown = ", ".join(names[:_CLASSES_SHOWN]) + (", ..." if len(names) > _CLASSES_SHOWN else "")
    text = f"{len(names):,}: {shown}"
    if counts is not None:
        least, most = int(counts.min()), int(counts.max())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        text += f"; {each} training examples each"
    return "classes", text


def passes(steps, batch, count):
    """How often a run sees each example.

    Args:
        steps, batch: int.
        count: int, training examples.

    Returns:
        str.
    """
    times = steps * batch / count
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def crops(area):
    """How images are cropped at random.

    Args:
        area: pair of floats, the fractions of the area that a crop keeps, `crop_area` of a config.

    Returns:
        str.
    """
    low, high = (round(100 * part) for part in area)
    return f"crops of {low} to {high} % of the area" if low < 100 else "not cropped"
