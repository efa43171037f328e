"""What a run is made from: the content of its inputs, and the versions of the software.

`config.json` holds both. An input (a source of data, the names of the classes, a teacher, initial
weights) is a dict of a `path` and digests of the content. The path is for readers, and None for
what the run makes itself. A resumed run compares only digests: files may move, but not change.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess

import keras
import numpy as np
import tensorflow as tf

import keras_vitbert
from keras_vitbert.configs.architecture import RATES
from pipelines.command_line import say
from pipelines.text.wordpiece import vocabulary_hash

# The form of config.json. 1: no digests of inputs; 2: with `inputs`, `versions` and `numerics`; 3:
# with `schema` itself and a seal.
SCHEMA = 3

# How a run computes what its config asks for. Older runs resume where it makes no difference.
# 0: other random numbers; 1: under mixed_bfloat16, logits are rounded to bfloat16; 2: they are
# float32 products.
NUMERICS = 2

# An input of which no change is accepted: a run that resumes takes its weights from its checkpoint.
INITIAL_WEIGHTS = "initial_weights"

# Prefixes of the settings that may change when a run is resumed, as they do not change its results.
# The records are checked by their number.
FREE_OF_PRETRAINING = (
    "config.checkpoint",
    "config.steps_per_epoch",
    "config.validation_interval",
    "config.steps_per_execution",
    "config.jit_compile",  # this and `remat` change only the last digits, which is reported
    "config.remat",
    "config.sharding",
    "config.teachers.",
    "config.data.images.train",
    "config.data.images.validation",
    "config.data.text.train",
    "config.data.text.validation",
    "config.data.vocabulary",
    "config.inspection.",
    "config.probes.",
    "records.",
)
# Those of fine-tuning; a trial is named by its learning rate and seed.
FREE_OF_FINE_TUNING = (
    "config.checkpoint",
    "config.steps_per_epoch",
    "config.evaluation_",
    "config.steps_per_execution",
    "config.jit_compile",
    "config.remat",
    "config.sharding",
    "config.grid",
    "config.metric",
    "config.optimizer.learning_rate",
    "config.seed",
    "model.",  # follows from the others, and is recorded for readers
    "records.",
)


def require_schema(record):
    """Refuses the record of a newer version, whose keys may have meanings unknown to this one.

    Args:
        record: dict, the content of a `config.json`.

    Raises:
        ValueError: its schema is newer, or is not valid.
    """
    schema = record.get("schema", 1)
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(f"its schema is {schema!r}; this version knows those from 1 to {SCHEMA}")


def require_numerics(where, record, dtype):
    """Refuses a run whose results an older version computed in another way.

    Args:
        where: str, the run's folder.
        record: dict, the content of its `config.json`.
        dtype: str, the dtype policy of its config.

    Raises:
        ValueError: the run cannot continue as it began.
    """
    began = record.get("numerics", 1)
    if began < 1:
        raise ValueError(
            f"{where} was begun by an older version, which drew other random numbers; finish it "
            "with that version, or use another --output_dir"
        )
    if began < NUMERICS and dtype != "float32":
        raise ValueError(
            f"{where} was begun by an older version, which rounded logits to bfloat16; finish it "
            "with keras-vitbert 0.1, or use another --output_dir"
        )


_CODE = (":/keras_vitbert", ":/pipelines", ":/tpu")  # of the repository
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # chooses kernels, which round differently


def versions():
    """What results may depend on besides config and inputs: dict of a name to str.

    These are the versions of packages, of JAX's if it is the backend of Keras; the `commit`; and
    an environment variable that TensorFlow reads.
    """
    packages = ["keras-hub", "tensorflow-text", "numpy"]
    if keras.backend.backend() == "jax":
        packages += ["jax", "jaxlib"]
    return {
        "keras_vitbert": keras_vitbert.__version__,
        "commit": commit() or "none",
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        **{name.replace("-", "_"): _version(name) for name in packages},
        _ONEDNN: os.environ.get(_ONEDNN, "unset"),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@functools.cache
def commit():
    """The commit of the code, with `+` where files differ from it; empty outside of a checkout."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # not of a checkout around an environment
        changed = _git("status", "--porcelain", "-uno", "--", *_CODE)
        return _git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments):
    found = subprocess.run(
        ["git", *arguments],
        cwd=os.path.dirname(__file__),
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip()


def compare_versions(where, was):
    """Reports changed versions and backends: a resumed run differs in its last digits.

    Args:
        where: str, the run's folder.
        was: dict, `versions` when the run began.
    """
    found = versions()
    changed = [f"{n} {was[n]}, now {v}" for n, v in found.items() if was.get(n, v) != v]
    if ("jax" in was) != ("jax" in found):
        backends = ("TensorFlow", "JAX") if "jax" in found else ("JAX", "TensorFlow")
        say("{} began on {} and resumes on {}: the last digits differ".format(where, *backends))
    if changed:
        say(f"{where} began with {'; '.join(changed)}: its numbers may not match to the bit")


def compare_replicas(where, was, now):
    """Reports how many replicas a run began on, if it resumes on another number.

    Args:
        where: str, the run's folder.
        was, now: int, numbers of replicas.
    """
    if was != now:
        say(
            f"{where} began on {was} replica{'s' * (was > 1)} and resumes on {now}: batches and "
            "dropout are the same, the last digits are not"
        )


def compare_compilation(where, was, now):
    """Reports if steps compiled by XLA follow steps that were not, or the other way round.

    Args:
        where: str, the run's folder.
        was, now: str, `jit_compile` of the config; `auto` from a version without such a choice.
    """
    if was != now and "auto" not in (was, now):
        how = {"on": "compiled by XLA", "off": "not compiled by XLA"}
        _say_last_digits(where, how[was], how[now])


def compare_recomputation(where, was, now):
    """Reports if steps that compute activations again follow steps that keep them, or vice versa.

    Args:
        where: str, the run's folder.
        was, now: bool, `remat` of the config.
    """
    if was != now:
        how = {True: "with remat", False: "without remat"}
        _say_last_digits(where, how[was], how[now])


def _say_last_digits(where, was, now):
    say(f"{where} began {was} and resumes {now}: the last digits are not the same")


def compare_dropout(where, was, now):
    """Reports if a run resumes with other random numbers for dropout.

    Args:
        where: str, the run's folder.
        was, now: str, names of generators, see `keras_vitbert.training.example_dropout`; empty for
            an older version, whose numbers were keyed by replica.
    """
    if was != now:
        by = f"with {was}" if was else "by replica, as older versions do"
        say(f"{where} drew dropout {by}, and resumes with {now}: different units are dropped")


def data_input(source, path=None):
    """A source of data as an input.

    Args:
        source: has `sha256` and may have `manifest_sha256` and `checksums_sha256`, such as
            `RecordFiles` or `LabelledTexts`.
        path: str, where it is stored.

    Returns:
        dict, see above.
    """
    found = {"path": path, "sha256": source.sha256}
    more = {key: getattr(source, key, None) for key in ("manifest_sha256", "checksums_sha256")}
    return found | {key: digest for key, digest in more.items() if digest}


def names_input(names):
    """A list of names as an input.

    Args:
        names: list of str, in their order.

    Returns:
        dict, see above.
    """
    return {"path": None, "sha256": vocabulary_hash(names)}


def model_input(model, path=None):
    """A model as an input: its weights, and the settings that its answers depend on.

    Names, the dtype policy and dropout are left out: whoever opens the model decides on them. So
    are vocabularies and class names, which have digests of their own.

    Args:
        model: Keras model of this project: a backbone, a network on one, or a `Teacher`.
        path: str, where it came from; None if the run has trained it itself.

    Returns:
        dict, see above.
    """
    network = getattr(model, "network", model)
    config = getattr(network, "backbone", network).get_config()
    left_out = ("name", "dtype", "trainable", *RATES)
    settings = {key: value for key, value in config.items() if key not in left_out}
    heads = getattr(network, "heads", getattr(network, "head_kind", None))
    content = json.dumps([settings, heads, weights_sha256(network)], sort_keys=True)
    return {"path": path, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def weights_sha256(model):
    """The digest of a model's weights alone: str.

    Args:
        model: Keras layer or model.
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def compare_inputs(where, known, inputs, accepted=()):
    """Compares inputs with those that a run began with.

    Args:
        where: str, the run's folder.
        known: dict of an input's name to the input, as the run recorded them.
        inputs: the current inputs, in the same form; names that are not known yet are new ones.
        accepted: collection of str, the names of inputs that may differ, from
            `--accept_changes`; that of `INITIAL_WEIGHTS` has no effect.

    Returns:
        list of the accepted changes, dicts with `input`, `was` and `is`.

    Raises:
        ValueError: an input that is not accepted differs.
    """
    changes = []
    for name, now in inputs.items():
        was = known.get(name)
        if not was or not _differs(was, now):
            continue
        if name not in accepted or name == INITIAL_WEIGHTS:
            accept = f", or accept the change with --accept_changes={name}"
            raise ValueError(
                f"{where} holds a run with other {name}: {_shown(was)}, not {_shown(now)}; give "
                "what it began with, or another --output_dir"
                f"{'' if name == INITIAL_WEIGHTS else accept}"
            )
        changes.append({"input": name, "was": was, "is": now})
    return changes


def name_of(change):
    """The name by which a change is accepted: str.

    Args:
        change: dict with `key` or `input`.
    """
    return change.get("input") or change["key"]


def told(change):
    """What is said about an accepted change: str.

    Args:
        change: dict with `was`, `is`, and `key` or `input`.
    """
    was, now = change["was"], change["is"]
    if "key" in change:
        return f"resumes with {change['key']}={now}; it was {was}"
    return f"resumes with other {change['input']}: {_shown(now)}, instead of {_shown(was)}"


def require_given(where, known, inputs, names, accepted=()):
    """Refuses a run that began with an input that is no longer given.

    Args:
        where: str, the run's folder.
        known, inputs, accepted: as in `compare_inputs`.
        names: collection of str, the inputs that flags of the same names give.

    Raises:
        ValueError: an input is missing; names its flag.
    """
    for name in names:
        was = known.get(name)
        if was and was["path"] and name not in inputs and name not in accepted:
            raise ValueError(
                f"{where} holds a run that began with --{name}={was['path']}; give that again, or "
                "another --output_dir"
            )


def require_weights_at_start(where, record):
    """Refuses initial weights for a run that began with random ones, which are then not used.

    Args:
        where: str, the run's folder.
        record: dict, the content of its `config.json`; empty for a new run.

    Raises:
        ValueError: it began without initial weights.
    """
    known = record.get("inputs")  # an older version recorded the path alone, outside of them
    if known is not None and not (INITIAL_WEIGHTS in known or record.get(INITIAL_WEIGHTS)):
        raise ValueError(
            f"{where} holds a run that began with random weights; leave --{INITIAL_WEIGHTS} out, "
            "or give another --output_dir"
        )


def _differs(was, now):
    return any(was[key] != now[key] for key in was.keys() & now.keys() if key != "path")


def _shown(content):
    text = f"sha256 {content['sha256'][:12]}"
    return f"{text} of {content['path']}" if content["path"] else text
