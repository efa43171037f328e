"""What users get wrong, one row for each kind: a command line, and the culprit that its error names.

A line is written as for a shell, without `python -m`; variables of the environment may precede it.
It runs in the folder that `places.py` makes. The culprit is a field, a file, a flag without its
dashes, or a value.
"""

import json
import shlex

_PRETRAIN, _FINETUNE, _PREDICT = (
    f"keras_vitbert.{name} " for name in ("pretrain", "finetune", "predict")
)
_COMMAND_LINES = {
    "--varient=bert": "varient",
    "--variant=vitbertt": "vitbertt",
    "bert": "bert",
    "--config=paper:huge": "huge",
    "--config=exits.py": "exits.py",
    "--config=fails.py": "fails.py",
    "--config.stepps=3": "stepps",
    "'--config.steps[0]=1'": "steps",
    "--config.steps=0": "steps",
    "--config=paper --config.merge.name=nash --config.merge.blocks=3:99": "merge.blocks",
}
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
    "--task=sst2 '--config.bucket_boundaries=(64,32)'": "bucket_boundaries",
    "--task=pets --checkpoint=run --architecture=paper": "architecture",
    "--task=sst2 --checkpoint=x --evaluate_only --sweep": "sweep",
    "--task=texts --checkpoint=run --data_dir=bad_line": "train.tsv, line 3",
    "--task=texts --checkpoint=run --data_dir=pairs --predictions=pairs/dev.tsv": "pairs/dev.tsv",
    "--task=texts --checkpoint=run --data_dir=pairs --predictions=run/config.json": "run",
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
    "--checkpoint=fine_tuned_texts --file=words.txt --output=words.txt": "words.txt",
    "--checkpoint=fine_tuned_texts --text=a --output=fine_tuned_texts/config.json": "config.json",
    "--checkpoint=fine_tuned_texts --file=other.tsv --columns=a,c": "'c'",
}
_OTHER_COMMANDS = {
    "export --checkpoint=run --output_dir=gs://b/c": "gs://b/c",
    "convert --checkpoint=run --output_dir=preset": "preset",
    "convert --checkpoint=others/bert --output_dir=x --format=run": "others/bert",
    "figures --run=run --output=x --figures=3,7": "'7'",
    "demo --checkpoint=run --port=70000": "port",
    "probe --checkpoint=rand --task=cifar10 --shots=5,x": "shots",
    "probe --checkpoint=fine_tuned_texts --data_dir=pairs --output_dir=fine_tuned_texts": "fine_tuned_texts",
    "reproduce --table=4": "table",
    "reproduce --all --results=zeros": "zeros",
    "reproduce --all --output_dir=gs://bucket/out": "gs://bucket/out",
}
_PIPELINES = {
    "wikipedia --dump=nowhere.bz2 --output=x": "nowhere.bz2",
    "books --folder=no_words --output=words.txt/x": "words.txt",
    "books --folder=absent --output=x -- --direct_num_workers=two": "direct_num_workers",
    "text_examples --output=x --documents=words.txt --vocabulary=vocab.txt --cased": "cased",
    "imagenet --train_tar=x --validation_labels=y --output=o": "validation_tar",
    "imagenet --tfds_data_dir=absent --output=o": "imagenet2012",
    "manifest --files=zeros": "zeros",
    "sample --cache_dir=words.txt": "words.txt",
}
_DEVICES = {
    "--tpu=v3_128": "v3_128",
    "--backend=jax --tpu=v3-8": "v3-8",
    "--config.sharding=fsdp": "sharding",
}
_THIRD_OF_TWO = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}
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
    ("checkpoints/LAST", b"step-00000099", "LAST"),
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


ROWS = [
    *_prefixed(_PRETRAIN, _COMMAND_LINES),
    *_prefixed(_PRETRAIN, _FILES),
    *_prefixed(_FINETUNE, _FINE_TUNING),
    *_prefixed(_PREDICT, _PREDICTION),
    *_prefixed("keras_vitbert.", _OTHER_COMMANDS),
    *_prefixed("pipelines.", _PIPELINES),
    *_prefixed(f"{_PRETRAIN}--config=sample ", _DEVICES),
    (f"TF_CONFIG={shlex.quote(json.dumps(_THIRD_OF_TWO))} {_PRETRAIN}", "TF_CONFIG"),
    (f"KERAS_BACKEND=jax {_RUN}", "KERAS_BACKEND"),
    *_prefixed("keras_vitbert.aot ", _AOT),
    ("tpu.worker --port=65536", "port"),
]
