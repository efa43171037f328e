"""The card of a shared model: the model, its training, its results and its limits."""

import html
import os
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.command_line import one_line
from pipelines.text_tables import markdown_table

FILE = "README.md"

# For each kind: the pipeline of the Hugging Face Hub, the title, and the class of keras-hub.
_KINDS = {
    "image_classifier": ("image-classification", "image classification", "ImageClassifier"),
    "text_classifier": ("text-classification", "text classification", "TextClassifier"),
    "masked_lm": ("fill-mask", "masked language modelling", "MaskedLM"),
    "backbone": ("feature-extraction", "backbone", "Backbone"),
    "run": ("feature-extraction", "pre-trained", ""),
}
_KIND_OF_ENDING = {  # of an architecture of transformers
    "ImageClassification": "image_classifier",
    "WithTeacher": "image_classifier",
    "SequenceClassification": "text_classifier",
    "MaskedLM": "masked_lm",
    "PreTraining": "masked_lm",
}
_MEASURES = (
    ("image classification accuracy", "image_accuracy", "image_majority_accuracy"),
    ("masked-LM accuracy", "mlm_accuracy", "mlm_unigram_accuracy"),
    ("masked-LM loss (nats)", "mlm_loss", "mlm_unigram_loss"),
    ("next-sentence accuracy", "nsp_accuracy", "nsp_majority_accuracy"),
)
# What describes the training, no path among it: keys and sections of a config.
_KEYS = {
    *("steps", "epochs", "image_batch", "text_batch", "batch", "seed", "head", "lora_rank"),
    *("label_smoothing", "dropout", "attention_dropout", "stochastic_depth", "accumulation"),
}
_SECTIONS = ("optimizer.", "distillation.")

# The paper's section "Limitations and Potential Negative Societal Impacts", in our words.
_LIMITS = """\
- Images and text alone: no video, no audio.
- One modality at a time. Nothing in the training ties an image to a text, so the model does not
  caption, retrieve or answer questions about images.
- Its predictions are statistics of the data it was trained on, and repeat their biases, among them
  those on gender and race that web images, encyclopedias and novels carry. Measure on your own
  data before people are affected by what it says.
"""


def model_card(
    trained: TrainedModel, kind: str, origin: dict[str, Any], architecture: str = ""
) -> str:
    """The text of a model's `README.md`, with the metadata that model hubs read.

    Args:
        kind: one of `hub.available_kinds(trained)`, or `run` for the weights of a run.
        origin: of `keras_vitbert.runs.provenance.origin_of(trained)`.
        architecture: of transformers, such as `BertModel`; empty for a preset of keras-hub.
    """
    library = "keras" if kind == "run" else "keras-hub"
    if architecture:
        library = "transformers"
        fitting = [kind for end, kind in _KIND_OF_ENDING.items() if architecture.endswith(end)]
        kind = fitting[0] if fitting else "backbone"
    pipeline, title, name = _KINDS[kind]
    data = ModelCardData(library_name=library, pipeline_tag=pipeline, tags=["vit-bert", "keras"])
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {html.escape(one_line(trained.name), quote=False)}: ViT-BERT, {title}\n",
        "One transformer encoder for images and for text (Li et al. 2021, *Towards a Unified "
        "Foundation Model*), in Keras 3 by `keras_vitbert`.\n",
        _usage(trained, name, architecture),
        _table("Model", ["", ""], _model(trained, kind).items()),
    ]
    if trained.origin:
        parts.append(f"## Weights\n\n{trained.origin}\n")
    if trained.record:
        parts += [_training(trained.record, trained.summary), _measured(trained.summary)]
    parts += [_made_from(origin), f"## Limits and biases\n\n{_LIMITS}"]
    return str(ModelCard("\n".join(parts)))


def _usage(trained, name, architecture):
    """How to open it, as a block of code."""
    language = "python"
    if architecture:
        inputs = "AutoTokenizer" if architecture.startswith("Bert") else "AutoImageProcessor"
        lines = [
            "import transformers\n",
            f"model = transformers.{architecture}.from_pretrained(FOLDER)",
            f"inputs = transformers.{inputs}.from_pretrained(FOLDER)",
        ]
    elif name:
        lines = [
            "import keras_hub",
            "import keras_vitbert.trained.hub  # lets keras_hub find the classes\n",
            f"model = keras_hub.models.{name}.from_preset(PRESET)",
        ]
    else:
        language = "sh"
        flags = {"image": "--image=FILE", "text": "--text=TEXT"}
        flags["mlm"] = '--text="The [MASK] is warm."'
        uses = [
            f"predict --checkpoint=FOLDER {flags[head]}" for head in trained.heads if head in flags
        ]
        uses.append("finetune --checkpoint=FOLDER --data_dir=DIR")
        lines = [f"python -m keras_vitbert.{use}" for use in uses]
    return "\n".join([f"```{language}", *lines, "```", ""])


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
    elif config["data"]["source"] == "sample":
        rows["data"] = "the sample: MNIST digits and an extract of the English Wikipedia"
    else:
        patterns = [config["data"][name]["train"] for name in ("images", "text")]
        names = [f"`{_base(os.path.dirname(p))}/{_base(p)}`" for p in patterns if p]
        rows |= {"data": ", ".join(names)} if names else {}  # shared weights do not say it
    rows["training examples"] = ", ".join(
        f"{count:,} {name}" for name, count in record["records"].items()
    )
    keys, sections, variant = _KEYS, _SECTIONS, VARIANTS.get(config.get("variant"))
    if variant and variant.images and variant.text:
        keys = keys | {"merge.name", "merge.image_loss_ratio"}
        sections += ("merge.mask_",) if "mask" in config["merge"]["name"] else ()
    for key, value in settings.items():
        is_shown = key in keys or key.startswith(sections)
        if is_shown and (value or key == "seed"):  # others are off
            rows[f"`{key}`"] = value
    return _table("Training", ["", ""], rows.items())


def _made_from(origin):
    """The first characters of the digests; `origin.json` has the whole digests."""
    made_of = origin["made_of"]
    digests = {"weights of the backbone": origin["weights_sha256"], **made_of.get("inputs", {})}
    rows = {name: f"sha256 `{digest[:12]}`" for name, digest in digests.items()}
    if accepted := made_of.get("accepted_changes"):
        rows["accepted changes"] = ", ".join(accepted)
    if versions := made_of.get("versions"):
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    note = "`origin.json` has the whole digests, and what they cover is in `docs/pretraining.md`."
    return f"{_table('Made from', ['', ''], rows.items())}\n{note}\n"


def _measured(summary):
    if not summary:
        return "## Measured\n\nThe run is not finished, so it has no final results.\n"
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
        header = [summary["metric"], "median", "minimum", "maximum", "most common class"]
        rows = []
        for split, measures in summary["splits"].items():
            value = measures[summary["metric"]]
            numbers = [*(value[name] for name in header[1:4]), measures["majority_accuracy"]]
            cells = (f"{number:.4f}" for number in numbers)
            rows.append((f"{split}, {measures['examples']:,} examples", *cells))
        note = f"Over {len(summary['seeds'])} seed(s); the model is that of the median."
    return f"{_table('Measured', header, rows)}\n{note}\n"


def _table(title, header, rows):
    return f"## {title}\n\n{markdown_table(header, rows)}\n"


def _base(path):
    return os.path.basename(os.path.normpath(path))
