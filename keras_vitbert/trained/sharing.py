"""Writes the folder of a shared model, with its provenance, its digests and its card."""

import copy
import html
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
from huggingface_hub import ModelCard, ModelCardData

from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.architectures import ARCHITECTURES
from keras_vitbert.trained.hub import HEADS
from keras_vitbert.trained.trained_model import ORIGIN_FILE, TrainedModel, origin_of
from pipelines.command_line import one_line
from pipelines.digests import write_sums
from pipelines.files import write_atomically
from pipelines.text_tables import markdown_table

# For each kind: the pipeline of the Hugging Face Hub, the title, and the class of keras-hub.
_KINDS = {
    "image_classifier": ("image-classification", "image classification", "ImageClassifier"),
    "text_classifier": ("text-classification", "text classification", "TextClassifier"),
    "masked_lm": ("fill-mask", "masked language modelling", "MaskedLM"),
    "backbone": ("feature-extraction", "backbone", "Backbone"),
    "run": ("feature-extraction", "pre-trained", ""),
    "portable": ("feature-extraction", "without TensorFlow", ""),
}
_MEASURES = (
    ("image classification accuracy", "image_accuracy", "image_majority_accuracy"),
    ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
    ("masked-LM loss (nats)", "mlm_loss", "mlm_unigram_loss"),
    ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
)
# Settings that a card shows; others hold paths, are in its table of the model, or only watch.
_SHOWN = ("steps", "epochs", "seed", "dtype", "batch", "image_batch_size", "text_batch_size")
_SHOWN += ("image_size", "max_length", "head", "lora_rank")
_SHOWN_OF_BOTH_MODALITIES = ("merge.name", "merge.image_loss_ratio")
_SHOWN_SECTIONS = ("optimizer.", "distillation.")

# The paper's section "Limitations and Potential Negative Societal Impacts", in our words.
_CARD = """\
---
{metadata}
---

# {name}: ViT-BERT, {title}

One transformer encoder for images and for text (Li et al. 2021, *Towards a Unified Foundation \
Model*), in Keras 3 by `keras_vitbert`.

```{language}
{usage}
```

{sections}

## Limits and biases

- Images and text alone: no video, no audio.
- One modality at a time. Nothing in the training ties an image to a text, so the model does not
  caption, retrieve or answer questions about images.
- Its predictions are statistics of the data it was trained on, and repeat their biases, among them
  those on gender and race that web images, encyclopedias and novels carry. Measure on your own
  data before people are affected by what it says.
"""


def write_shared(path: str, write: Callable[[str], Any], trained: TrainedModel, kind: str) -> None:
    """Writes the complete folder at a local path, or nothing; `write` writes the model there.

    `kind` is that of `model_card`.
    """
    target = os.path.realpath(path)  # `path` may be a link to an empty folder
    parent = os.path.dirname(target)
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".preset-") as work:
            _reserve(os.path.join(work, "reserved"), trained.network.weights)
            folder = os.path.join(work, "preset")
            os.mkdir(folder)
            write(folder)
            origin = origin_of(trained)
            write_atomically(os.path.join(folder, ORIGIN_FILE), json.dumps(origin, indent=2) + "\n")
            write_sums(folder)  # before the model card is written, which people may change
            card = model_card(trained, kind, origin)
            write_atomically(os.path.join(folder, "README.md"), card)
            if os.path.isdir(target):
                os.rmdir(target)
            shutil.move(folder, target)
    except OSError as error:  # which may not name the file
        raise ValueError(f"{path}: cannot be written ({error})") from error


def _reserve(path: str, weights: Iterable[Any]) -> None:
    """Checks that the disk has room: h5py may crash the process if it has none."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    size = sum(math.prod(weight.shape) * 4 for weight in weights)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * size + (1 << 20))  # the layout takes room too
    os.unlink(path)


def round_weights(network: Any, dtype: str) -> None:
    """Rounds the float32 weights of a network to values that `bfloat16` can hold, if asked to."""
    for weight in network.weights:
        if weight.dtype == "float32":
            weight.assign(keras.ops.cast(keras.ops.cast(weight, dtype), weight.dtype))


def write_weights(trained: TrainedModel, folder: str, dtype: str) -> None:
    """Writes a run's folder with what its use requires, and without the state of its training.

    It can replace the run everywhere, but no run can resume from it. The run is one of `pretrain`,
    opened in float32; the weights are stored in the dtype, `float32` or `bfloat16`.
    """
    source, target = RunFolder(trained.path), RunFolder(folder)
    record = copy.deepcopy(trained.record)
    data = record["experiment"]["data"]
    for kind in ("images", "text"):
        data[kind] |= {"train": "", "validation": ""}
    data["vocabulary"] = ""
    target.write_json("config.json", record)
    if trained.summary:
        bad = [
            {**damage, "file": os.path.basename(damage["file"])}
            for damage in trained.summary["bad_records"]
        ]
        target.write_json("summary.json", {**trained.summary, "bad_records": bad})
    for name in ("vocabulary.txt", "classes.txt"):
        text = source.read(name)
        if text is not None:
            target.write(name, text)
    checkpoints.write_weights(target.checkpoints, trained.network, trained.step, dtype)


def model_card(trained: TrainedModel, kind: str, origin: dict[str, Any]) -> str:
    """The text of a model's `README.md`, with the metadata that model hubs read.

    The kind is one of `hub.available_kinds(trained)`, an architecture of transformers, such as
    `BertModel`, `run` for the weights of a run, or `portable` for graphs with their `predict.py`;
    the origin is that of `origin_of`.
    """
    library = "keras" if kind in ("run", "portable") else "keras-hub"
    architecture = ""
    if kind in ARCHITECTURES:
        library, architecture, heads = "transformers", kind, ARCHITECTURES[kind]
        kind = next((kind for kind, head in HEADS.items() if head in heads), "backbone")
    pipeline, title, name = _KINDS[kind]
    usage = _usage(trained, kind, name, architecture)
    sections = [_table("Model", ["", ""], _model(trained, kind))]
    if trained.origin:
        sections.append(f"## Weights\n\n{trained.origin}")
    if trained.record:
        sections += [_training(trained.record, trained.summary), _results(trained.summary)]
    data = ModelCardData(library_name=library, pipeline_tag=pipeline, tags=["vit-bert", "keras"])
    card = _CARD.format(
        metadata=data.to_yaml(),
        name=html.escape(one_line(trained.name), quote=False),
        title=title,
        language="python" if "import" in usage else "sh",
        usage=usage,
        sections="\n\n".join([*sections, _provenance(origin)]),
    )
    return str(ModelCard(card))


def _usage(trained: TrainedModel, kind: str, name: str, architecture: str) -> str:
    """How to open it: lines of Python, or of a shell."""
    if architecture:
        inputs = "AutoTokenizer" if architecture.startswith("Bert") else "AutoImageProcessor"
        return (
            "import transformers\n\n"
            f"model = transformers.{architecture}.from_pretrained(FOLDER)\n"
            f"inputs = transformers.{inputs}.from_pretrained(FOLDER)"
        )
    if name:
        return (
            "import keras_hub\n"
            "import keras_vitbert.trained.hub  # lets keras_hub find the classes\n\n"
            f"model = keras_hub.models.{name}.from_preset(PRESET)"
        )
    flags = {"image": "--image=FILE", "text": "--text=TEXT", "mlm": '--text="The [MASK] is warm."'}
    if kind == "portable":
        flags["image"] = "FILE"
        return "\n".join(f"python predict.py {flags[head]}" for head in trained.heads)
    uses = [f"predict --checkpoint=FOLDER {flags[head]}" for head in trained.heads]
    uses.append("finetune --checkpoint=FOLDER --data_dir=DIR")
    return "\n".join(f"python -m keras_vitbert.{use}" for use in uses)


def _model(trained: TrainedModel, kind: str) -> Iterator[tuple[str, str]]:
    backbone = trained.backbone
    names = ("num_layers", "hidden_dim", "num_heads", "intermediate_dim")
    yield "blocks, width, heads, MLP", ", ".join(str(getattr(backbone, name)) for name in names)
    yield "parameters of the backbone", f"{backbone.count_params():,}"
    if size := backbone.image_size:
        crop = f"the central {trained.central_crop:g} of the shorter side"
        yield "images", f"{size} x {size} pixels, patches of {backbone.patch_size}; {crop}"
    if backbone.vocabulary_size is not None:
        case = "lower case" if trained.lower_case else "cased"
        count = len(trained.vocabulary) if trained.vocabulary else backbone.vocabulary_size
        length = backbone.max_sequence_length
        yield "text", f"WordPiece, {count:,} tokens, {case}; {length} tokens at most"
    for head in ("image", "text"):
        classes = trained.classes_of(head)
        if classes and head in trained.heads and kind in ("run", "portable", f"{head}_classifier"):
            names = ", ".join(classes[:20])
            more = ", ..." if len(classes) > 20 else ""
            name = f"{head} classes" if trained.text_classes else "classes"
            yield name, f"{len(classes)}: {names}{more}"


def _training(record: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    config, shown = record["experiment"], _SHOWN
    settings = flatten(config)
    if "kind" in config:
        task = config_of(record).task_names
        rows = {"task": f"`{task}`", "began with": f"`{_base(record['checkpoint'])}`"}
        shown += _SHOWN_OF_BOTH_MODALITIES if "tasks" in summary else ()
        # The trial of the median seed, with the learning rate that was picked.
        settings |= {
            "optimizer.learning_rate": summary["learning_rate"],
            "steps": summary["steps"],
            "seed": int(summary["model"].rpartition("-")[2]),
        }
    else:
        rows, variant = {"variant": f"`{config['variant']}`"}, VARIANTS[config["variant"]]
        patterns = [config["data"][name]["train"] for name in ("images", "text")]
        names = [f"`{_base(os.path.dirname(p))}/{_base(p)}`" for p in patterns if p]
        if config["data"]["source"] == "sample":
            names = ["the sample: MNIST digits and an extract of the English Wikipedia"]
        rows |= {"data": ", ".join(names)} if names else {}  # shared weights do not say it
        shown += _SHOWN_OF_BOTH_MODALITIES if variant.images and variant.text else ()
    counts = (f"{count:,} {name}" for name, count in record["records"].items())
    rows["training examples"] = ", ".join(counts)
    for key, value in settings.items():
        name = key.removeprefix("image.").removeprefix("text.")  # sections of two tasks
        is_shown = name in shown or key.startswith(_SHOWN_SECTIONS)
        if is_shown and (value or key == "seed"):
            rows[f"`{key}`"] = value
    return _table("Training", ["", ""], rows.items())


def _results(summary: Mapping[str, Any]) -> str:
    if not summary:
        return "## Measured\n\nThe run is not finished, so it has no final results."
    if "validation" in summary:
        header, values = ["validation", "model", "baseline"], summary["validation"]
        rows = [
            (name, f"{values[measure]:.4f}", f"{summary['baselines'][baseline]:.4f}")
            for name, measure, baseline in _MEASURES
            if measure in values
        ]
        note = (
            "Baselines use frequencies only: the most common class, the unigram distribution "
            "of masked tokens, the more common answer."
        )
    else:
        header = ["metric", "median", "minimum", "maximum", "most common class", "linear model"]
        rows, notes = [], []
        for section, task in summary.get("tasks", {"": summary}).items():
            for split, measures in task["splits"].items():
                value = measures[task["metric"]]
                numbers = [*(value[name] for name in header[1:4]), measures["majority_accuracy"]]
                linear = task.get("linear") if split == task["split"] else None
                numbers += [linear["accuracy"]] if linear else []
                cells = [f"{number:.4f}" for number in numbers] + ([] if linear else [""])
                name = f"{task['metric']} on {section} {split}".replace("  ", " ")
                rows.append((f"{name}, {measures['examples']:,} examples", *cells))
                if linear and linear["note"]:
                    notes.append(f"On {section} {split} {linear['note']}.".replace("  ", " "))
        note = f"Over {len(summary['seeds'])} seed(s); the model is that of the median."
        note = " ".join([note, "The last two columns are accuracies.", *notes])
    return f"{_table('Measured', header, rows)}\n\n{note}"


def _provenance(origin: Mapping[str, Any]) -> str:
    """The first characters of the digests; `origin.json` has the whole digests."""
    made_of = origin["made_of"]
    digests = {"weights of the backbone": origin["weights_sha256"], **made_of.get("inputs", {})}
    rows = {name: f"sha256 `{digest[:12]}`" for name, digest in digests.items()}
    if accepted := made_of.get("accepted_changes"):
        rows["accepted changes"] = ", ".join(accepted)
    if versions := made_of.get("versions"):
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    note = "`origin.json` has the whole digests, and what they cover is in `docs/pretraining.md`."
    return f"{_table('Made from', ['', ''], rows.items())}\n\n{note}"


def _table(title: str, header: list[str], rows: Iterable[Sequence[Any]]) -> str:
    return f"## {title}\n\n{markdown_table(header, [list(row) for row in rows])}"


def _base(path: str) -> str:
    return os.path.basename(os.path.normpath(path))
