"""What users get wrong, one row for each kind: a command line, and the culprit that its error names.

A line is written as for a shell, without `python -m`; variables of the environment may precede it.
It runs in the folder that `places.py` makes. The culprit is a field, a file, a flag without its
dashes, or a value.
"""

import itertools
import json
import shlex

_PRETRAIN, _FINETUNE, _PREDICT = (
    f"keras_vitbert.{name} " for name in ("pretrain", "finetune", "predict")
)
# The sample's numbers are tuned now and then; these stay.
_FIXED = _PRETRAIN + (
    "--config.steps=700 --config.steps_per_epoch=100 --config.validation_interval=700 "
    "--config.optimizer.warmup_steps=50 --config.model.num_heads=4 --config.model.hidden_dim=128 "
    "--config.model.patch_size=7 --config.teachers.image_steps=500 --config.teachers.text_steps=700 "
)
_COMMAND_LINES = {
    "--varient=bert": "varient",
    "--variant=vitbertt": "vitbertt",
    "bert": "bert",
    "--config=sampel": "sampel",
    "--config=paper:huge": "huge",
    "--config=exits.py": "exits.py",
    "--config=no_function.py": "get_config",
    "--config=fails.py": "fails.py",
    "--config.stepps=3": "stepps",
    "--config.steps=1.5": "steps",
    "'--config.steps[0]=1'": "steps",
}
# A range or a choice that a field has alone.
_VALUES = """
steps=0 dtype=float16
optimizer.learning_rate=nan
merge.name=pcgrd data.images.crop_area=(0.9,0.8)
data.images.augmentations={"class_name":"GridMsk"}
""".split()
# What fits no other field; the culprit is the last one.
_RELATIONS = [
    "model.patch_size=8 model.image_size=28",
    "data.images.cutmix=1.0 image_batch_size=127",
    "steps_per_epoch=99 validation_interval=700",
    "merge.name=nash merge.blocks=3:99",
    "optimizer.name=lion optimizer.epsilon=1e-3",
]
_TEXTS = "--variant=bert --config=paper --config.data.text.train=x --config.data.text.validation=x --config.data.vocabulary="
_IMAGES = (
    "--variant=vit --config=paper --config.data.images.validation=x --config.data.images.train="
)
_FILES = {
    f"{_TEXTS}absent": "absent",
    f"{_TEXTS}twice.txt": "word0",
    f"{_TEXTS}no_pad.txt": "[PAD]",
    f"{_IMAGES}cake://x": "cake",
    f"{_IMAGES}records": "records",
}
_FINE_TUNING = {
    "": "task",
    "--task=pets '--config.grid=(0.1,0.1)'": "grid",
    "--task=pets --config.steps_per_epoch=100 --config.evaluation_interval=101": "evaluation_interval",
    "--task=sst2 '--config.bucket_boundaries=(64,32)'": "bucket_boundaries",
    "--task=sst2 --config.data.sentence_columns=a,b,c": "data.sentence_columns",
    "--task=pets --checkpoint=run --architecture=paper": "architecture",
    "--task=sst2 --checkpoint=x --evaluate_only --sweep": "sweep",
    "--task=texts --checkpoint=run --data_dir=bad_line": "train.tsv, line 3",
    "--task=images --checkpoint=run --config.image_size=12 --data_dir=empty_train": "empty_train",
    "--task=pets --checkpoint=run --config.image_size=8 --data_dir=hollow": "oxford_iiit_pet",
}
_PREDICTION = {
    "--checkpoint=run": "image",
    "--checkpoint=run --image=x --text_pair=a": "text_pair",
    "--checkpoint=run --file=masks.tsv": "masks.tsv, line 3",
    "--checkpoint=run --text=a --output=words.txt/x": "words.txt",
    "--checkpoint=run --image=pipe": "pipe",
    "--checkpoint=others/vit --text=a": "others/vit",
    "--checkpoint=plain.npz --image=image.jpg": "plain.npz",
    "--checkpoint=fine_tuned_texts --file=other.tsv": "columns",
    "--checkpoint=fine_tuned_texts --file=other.tsv --columns=a,c": "'c'",
}
_OTHER_COMMANDS = {
    "export --checkpoint=run --output_dir=gs://b/c": "gs://b/c",
    "convert --checkpoint=run --output_dir=preset": "preset",
    "convert --checkpoint=run --output_dir=x --task=text_classifier": "text_classifier",
    "convert --checkpoint=others/bert --output_dir=x --format=run": "others/bert",
    "figures --run=run --output=x --figures=3,7": "'7'",
    "demo --checkpoint=run --port=70000": "port",
}
_EXAMPLES = "text_examples --output=x --shards=1 --documents=words.txt --vocabulary="
_PIPELINES = {
    "wikipedia --dump=nowhere.bz2 --output=x": "nowhere.bz2",
    "books --folder=no_words --output=words.txt/x": "words.txt",
    "books --folder=absent --output=x -- --direct_num_workers=two": "direct_num_workers",
    f"{_EXAMPLES}vocab.txt --cased": "cased",
    f"{_EXAMPLES}vocab.txt --unit_megabytes=nan": "unit_megabytes",
    "imagenet --output=o": "folder",
    "imagenet --train_tar=x --validation_labels=y --output=o": "validation_tar",
    "imagenet --tfds_data_dir=absent --output=o": "imagenet2012",
    "manifest --files=zeros": "zeros",
    "sample --cache_dir=words.txt": "words.txt",
}
_DEVICES = {
    "--tpu=v3_128": "v3_128",
    "--tpu=grpc://localhost:65536": "65536",
    "--backend=jax --tpu=v3-8": "v3-8",
    "--config.sharding=fsdp": "sharding",
}
_WORKERS = {"worker": ["a:1", "b:1"]}
_TF_CONFIGS = [
    ("{'cluster'", "TF_CONFIG"),
    ({"cluster": _WORKERS, "task": {"type": "worker", "index": 2}}, "TF_CONFIG"),
]
_AOT = {
    "": "tpu",
    "--tpu=v3-128 --config.image_batch_size=4000": "image_batch_size",
    "--tpu=v3-8 --architecture=paper": "architecture",
}
# Of files that hold something else meanwhile: bytes, or changes of JSON by dotted keys.
_RUN = f"{_PREDICT}--checkpoint=run --text='the [MASK]'"
_RUN_FILES = [
    ("config.json", b"[" * 100_000, "config.json"),
    ("config.json", {"experiment.variant": "vitbrt"}, "vitbrt"),
    ("config.json", {"experiment.model.num_layers": 2}, "step-00000010"),
    ("checkpoints/step-00000010/state.index", b"x", "step-00000010"),
    ("classes.txt", b"\xff", "classes.txt"),
    ("vocabulary.txt", b"[PAD]\n", "vocabulary.txt"),
]
_OTHER = "keras_vitbert.convert --checkpoint=others/vit_model --output_dir=x"
_OTHER_FILES = [
    ("config.json", b"{}", "vit_model"),
    ("config.json", {"hidden_act": "quick"}, "hidden_act"),
    ("model.safetensors", b"x", "model.safetensors"),
    ("preprocessor_config.json", b'{"rescale_factor": null}', "vit_model"),
]
_PRESET = f"{_PREDICT}--checkpoint=preset --image=image.jpg"
_PRESET_FILES = [
    ("config.json", b"{", "config.json"),
    ("model.weights.h5", b"x", "preset"),
]
DAMAGED = [
    (command, f"{folder}/{file}", content, culprit)
    for command, folder, rows in (
        (_RUN, "run", _RUN_FILES),
        (_OTHER, "others/vit_model", _OTHER_FILES),
        (_PRESET, "preset", _PRESET_FILES),
    )
    for file, content, culprit in rows
]


def _prefixed(prefix, rows):
    return [(prefix + line, culprit) for line, culprit in rows.items()]


def _of_config(values):
    """A line with values of a config; the last one is the culprit."""
    values = values.split()
    line = " ".join(f"'--config.{value}'" for value in values)
    return _FIXED + line, values[-1].partition("=")[0]


def _of_tf_config(content, culprit):
    content = content if isinstance(content, str) else json.dumps(content)
    return f"TF_CONFIG={shlex.quote(content)} {_PRETRAIN}--variant=vit", culprit


ROWS = [
    *_prefixed(_PRETRAIN, _COMMAND_LINES),
    *map(_of_config, [*_VALUES, *_RELATIONS]),
    *_prefixed(_PRETRAIN, _FILES),
    *_prefixed(_FINETUNE, _FINE_TUNING),
    *_prefixed(_PREDICT, _PREDICTION),
    *_prefixed("keras_vitbert.", _OTHER_COMMANDS),
    *_prefixed("pipelines.", _PIPELINES),
    *_prefixed(f"{_PRETRAIN}--config=sample ", _DEVICES),
    *itertools.starmap(_of_tf_config, _TF_CONFIGS),
    (f"KERAS_BACKEND=jax {_RUN}", "KERAS_BACKEND"),
    *_prefixed("keras_vitbert.aot ", _AOT),
    ("tpu.worker --port=65536", "port"),
]
