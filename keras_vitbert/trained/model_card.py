"""The card of a shared model: the model, its training, its results and its limits."""

import html
import os

from keras_vitbert.configs.merges import MASKS, parts_of
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from pipelines.command_line import one_line
from pipelines.text_tables import markdown_row

FILE = "README.md"

# For each kind: the pipeline of the Hugging Face Hub, the title, and the class.
_KINDS = {
    "image_classifier": ("image-classification", "image classification", "ViTBertImageClassifier"),
    "text_classifier": ("text-classification", "text classification", "ViTBertTextClassifier"),
    "masked_lm": ("fill-mask", "masked language modelling", "ViTBertMaskedLM"),
    "backbone": ("feature-extraction", "backbone", "ViTBertBackbone"),
    "run": ("feature-extraction", "pre-trained", ""),
}
_MEASURES = (
    ("image classification accuracy", "image_accuracy", "image_majority_accuracy"),
    ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
    ("masked-LM loss (nats)", "mlm_loss", "mlm_unigram_loss"),
    ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
)
# Keys of a config that do not describe the training; paths of data are private.
_HIDDEN = (
    *("variant", "task", "kind", "data.", "model.", "checkpoint", "teachers.", "dtype"),
    *("evaluation", "validation"),
    *("grid", "selection_part", "buckets", "steps_per_epoch", "steps_per_execution"),
    *("jit_compile", "sharding", "inspection.", "probes."),
)

# The paper's section "Limitations and Potential Negative Societal Impacts", in our words.
_LIMITS = """\
- Images and text alone: no video, no audio.
- One modality at a time. Nothing in the training ties an image to a text, so the model does not
  caption, retrieve or answer questions about images.
- Its predictions are statistics of the data it was trained on, and repeat their biases, among them
  those on gender and race that web images, encyclopedias and novels carry. Measure on your own
  data before people are affected by what it says.
"""


def model_card(trained, kind, origin, architecture=""):
    """The text of a model's `README.md`, with the metadata that model hubs read.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.
        kind: str, one of `keras_vitbert.trained.presets.available_kinds(trained)`, or `run` for the
            weights of a run.
        origin: dict, of `keras_vitbert.runs.origin.origin_of(trained)`.
        architecture: str, of transformers, such as `BertModel`; empty for a preset of keras-hub.

    Returns:
        str, Markdown.
    """
    pipeline, title, class_name = _KINDS[kind]
    library = "keras" if kind == "run" else "keras-hub"
    usage = _usage_of_run(trained) if kind == "run" else _usage(kind, class_name)
    if architecture:
        library, (pipeline, title) = "transformers", _of_architecture(architecture)
        usage = _usage_of(architecture)
    parts = [
        f"---\nlibrary_name: {library}\npipeline_tag: {pipeline}\n"
        "tags:\n- vit-bert\n- keras\n---\n",
        f"# {html.escape(one_line(trained.name), quote=False)}: ViT-BERT, {title}\n",
        "One transformer encoder for images and for text (Li et al. 2021, *Towards a Unified "
        "Foundation Model*), in Keras 3 by `keras_vitbert`.\n",
        usage,
        _table("## Model", _model(trained, kind)),
    ]
    if trained.origin:
        parts.append(f"## Weights\n\n{trained.origin}\n")
    if trained.record:
        parts += [_training(trained.record, trained.summary), _measured(trained.summary)]
    parts.append(_made_from(origin))
    parts.append("## Limits and biases\n\n" + _LIMITS)
    return "\n".join(parts)


def _of_architecture(architecture):
    """The pipeline of the Hugging Face Hub, and the title."""
    if architecture.endswith(("ImageClassification", "WithTeacher")):
        kind = "image_classifier"
    elif architecture.endswith("SequenceClassification"):
        kind = "text_classifier"
    else:
        kind = "masked_lm" if "MaskedLM" in architecture or "PreTraining" in architecture else ""
    return _KINDS[kind or "backbone"][:2]


def _usage_of(architecture):
    """How to open it with transformers."""
    is_bert = architecture.startswith("Bert")
    inputs = "AutoTokenizer" if is_bert else "AutoImageProcessor"
    name = "tokenizer" if is_bert else "processor"
    return (
        "```python\nimport transformers\n\n"
        f"model = transformers.{architecture}.from_pretrained(FOLDER)\n"
        f"{name} = transformers.{inputs}.from_pretrained(FOLDER)\n```\n"
    )


def _usage_of_run(trained):
    """The commands that its heads allow."""
    uses = []
    if "image" in trained.heads:
        uses.append("predict --checkpoint=FOLDER --image=FILE")
    if "mlm" in trained.heads:
        uses.append('predict --checkpoint=FOLDER --text="The [MASK] is warm."')
    uses.append("finetune --checkpoint=FOLDER --data_dir=DIR")
    lines = [f"python -m keras_vitbert.{use}" for use in uses]
    return "\n".join(["```sh", *lines, "```", ""])


def _usage(kind, name):
    parent, variable = name.removeprefix("ViTBert"), "model"
    if kind == "backbone":
        variable = "backbone"
    use = (
        "import keras_hub\nimport keras_vitbert.trained.hub  # lets keras_hub find the classes\n\n"
        f"{variable} = keras_hub.models.{parent}.from_preset(PRESET)\n"
    )
    scale = ""
    if kind in ("image_classifier", "backbone"):
        scale = "\nImages are integers in 0 to 255, or floats in 0 to 1.\n"
    return f"```python\n{use}```\n{scale}"


def _model(trained, kind):
    backbone = trained.backbone
    rows = {
        "blocks, width, heads, MLP": f"{backbone.num_layers}, {backbone.hidden_dim}, "
        f"{backbone.num_heads}, {backbone.intermediate_dim}",
        "parameters of the backbone": f"{backbone.count_params():,}",
    }
    if backbone.image_size is not None:
        rows["images"] = (
            f"{backbone.image_size} x {backbone.image_size} pixels, patches of "
            f"{backbone.patch_size}; the central {trained.central_crop:g} of the shorter side"
        )
    if backbone.vocabulary_size is not None:
        case = "lower case" if trained.lower_case else "cased"
        size = len(trained.vocabulary) if trained.vocabulary else backbone.vocabulary_size
        rows["text"] = (
            f"WordPiece, {size:,} tokens, {case}; {backbone.max_sequence_length} tokens at most"
        )
    if (kind.endswith("classifier") or kind == "run") and trained.classes:
        names = ", ".join(trained.classes[:20])
        rows["classes"] = f"{len(trained.classes)}: {names}{', ...' * (len(trained.classes) > 20)}"
    return rows


def _training(record, summary):
    config = record["experiment"]
    settings = flatten(config)
    rows = {"variant": f"`{config['variant']}`"} if "variant" in config else {}
    if "task" in config:
        rows |= {"task": f"`{config['task']}`", "began with": f"`{_base(record['checkpoint'])}`"}
        # The trial of the median seed, with the learning rate that was picked.
        settings |= {
            "optimizer.learning_rate": summary["learning_rate"],
            "steps": summary["steps"],
            "seed": int(summary["model"].rpartition("-")[2]),
        }
    else:
        data = config["data"]
        patterns = [data[name]["train"] for name in ("images", "text") if data[name]["train"]]
        rows["data"] = ", ".join(f"`{_base(os.path.dirname(p))}/{_base(p)}`" for p in patterns)
        if data["source"] == "sample":
            rows["data"] = "the sample: MNIST digits and an extract of the English Wikipedia"
    rows["training examples"] = ", ".join(
        f"{count:,} {name}" for name, count in record["records"].items()
    )
    hidden = (*_HIDDEN, *_of_other_merges(config))
    for key, value in settings.items():
        if not key.startswith(hidden) and (value or key == "seed"):  # others are off
            rows[f"`{key}`"] = value
    return _table("## Training", rows)


def _of_other_merges(config):
    """The prefixes of config keys of merges that a run does not use."""
    if "variant" not in config:
        return ()
    variant = VARIANTS[config["variant"]]
    if not (variant.images and variant.text):
        return ("merge.",)
    merge = config["merge"]
    used = parts_of(merge["name"])
    options = [name for name, value in merge.items() if isinstance(value, dict)]
    hidden = tuple(f"merge.{name}." for name in options if name not in used)
    return hidden if set(MASKS) & set(used) else (*hidden, "merge.mask_")


def _made_from(origin):
    """The first characters of the digests; `origin.json` has the whole digests."""
    made_of = origin["made_of"]
    rows = {"weights of the backbone": f"sha256 `{origin['weights_sha256'][:12]}`"}
    for name, digest in made_of.get("inputs", {}).items():
        rows[name] = f"sha256 `{digest[:12]}`"
    if accepted := made_of.get("accepted_changes"):
        rows["accepted changes"] = ", ".join(accepted)
    if versions := made_of.get("versions"):
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    note = "`origin.json` has the whole digests, and what they cover is in `docs/pretraining.md`."
    return f"{_table('## Made from', rows)}\n{note}\n"


def _measured(summary):
    if not summary:
        return "## Measured\n\nThe run is not finished, so it has no final results.\n"
    if "validation" in summary:
        lines = ["| validation | model | baseline |", "| --- | --- | --- |"]
        for name, measure, baseline in _MEASURES:
            if measure in summary["validation"]:
                value = summary["validation"][measure]
                lines.append(f"| {name} | {value:.4f} | {summary['baselines'][baseline]:.4f} |")
        note = (
            "Baselines use frequencies only: the most common class, the unigram distribution "
            "of masked tokens, the more common answer."
        )
    else:
        lines = [
            markdown_row([summary["metric"], "median", "minimum", "maximum", "most common class"]),
            "| --- | --- | --- | --- | --- |",
        ]
        for split, measures in summary["splits"].items():
            value = measures[summary["metric"]]
            numbers = [value[name] for name in ("median", "minimum", "maximum")]
            cells = [f"{v:.4f}" for v in [*numbers, measures["majority_accuracy"]]]
            lines.append(markdown_row([f"{split}, {measures['examples']:,} examples", *cells]))
        note = f"Over {len(summary['seeds'])} seed(s); the model is that of the median."
    return "\n".join(["## Measured\n", *lines, "", note, ""])


def _table(title, rows):
    lines = [f"{title}\n", "| | |", "| --- | --- |"]
    return "\n".join([*lines, *map(markdown_row, rows.items()), ""])


def _base(path):
    return os.path.basename(os.path.normpath(path))
