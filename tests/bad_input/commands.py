"""Rows of the flags, files and models of the commands of `keras_vitbert`, see `table.py`."""

_IMAGES = "--config.data.images.validation=x"
_TEXTS = "--config.data.text.train=x --config.data.text.validation=x"
_PRETRAIN = {
    "--variant=vit --config=paper": "the config lacks data .*: --config.data.images.train=PATTERN --config.data.images.validation=PATTERN$",
    "--variant=bert --config=paper": "lacks data .*: --config.data.text.train=PATTERN .*--config.data.vocabulary=FILE$",
    "--config=paper --quick": (
        "lacks data .*: --config.data.images.train=PATTERN .*--config.data.vocabulary=FILE$"
    ),
    f"--variant=bert --config=paper {_TEXTS} --config.data.vocabulary=none": "none: no such vocabulary; ",
    f"--variant=bert --config=paper {_TEXTS} --config.data.vocabulary=latin1.txt": "cannot be read as a voc",
    f"--variant=bert --config=paper {_TEXTS} --config.data.vocabulary=twice.txt": "'word0' occurs twice",
    f"--variant=bert --config=paper {_TEXTS} --config.data.vocabulary=no_pad.txt": r"\[PAD\] missing; take",
    f"--variant=bert --config=paper {_TEXTS} --config.data.vocabulary=pipe": "pipe",
    "--variant=bert --config=paper --config.data.vocabulary=vocab.txt": "lacks data .*: --config.data.text.train=PATTERN --config.data.text.validation=PATTERN$",
    f"--variant=vit --config=paper {_IMAGES} --config.data.images.train=none-*": "no file matches none-*",
    f"--variant=vit --config=paper {_IMAGES} --config.data.images.train=cake://x": "cake",
    **{
        f"--variant=vit --config=paper {_IMAGES} --config.data.images.train={name}": f"{name}: the file is dam"
        for name in ("records", "zeros")
    },
}
_FINETUNE = {
    "--checkpoint=none --task=pets": "none: no such folder, file or preset; give",
    "--checkpoint=run --task=pets --architecture=paper": "--architecture goes with --checkpoint=rand",
    "--checkpoint=rand --task=sst2": "has no vocabulary, which a text task needs",
    "--checkpoint=rand --task=texts --vocabulary=none": "none: no such vocabulary",
    "--checkpoint=rand --task=texts --vocabulary=latin1.txt": "cannot be read as a vocabulary",
    "--checkpoint=rand --task=pets --architecture=none": "--architecture=none: no such config; give",
    "--checkpoint=rand --task=pets --architecture=exits.py": "--architecture=exits.py: SystemExit",
    "--checkpoint=run --task=pets --config.image_size=8 --data_dir=empty": "oxford_iiit_pet is not in",
    "--checkpoint=run --task=texts": "--data_dir is missing",
    "--checkpoint=run --task=texts --data_dir=none": "--data_dir=none: no such folder",
    "--checkpoint=run --task=texts --data_dir=empty": "holds neither a folder of images",
    "--checkpoint=run --task=texts --data_dir=bad_line": "train.tsv, line 3: 1 fields, expected 2",
    "--checkpoint=run --task=texts --data_dir=no_label": "train.tsv: has no label column",
    "--checkpoint=run --task=texts --data_dir=one_class": "all training examples are of one class, 'no'",
    "--checkpoint=run --task=texts --data_dir=pairs --predictions=empty": "predictions=.*: is a folder",
    "--checkpoint=run --task=texts --data_dir=pairs --config.data.label_column=x": "has no column 'x'",
    "--checkpoint=run --task=texts --data_dir=pairs --config.max_length=17": "has positions for 16",
    "--checkpoint=run --task=texts --data_dir=pairs --config.evaluation_batch=2000000000": "--config.evaluation_batch=2000000000: is too large",
    "--checkpoint=run --task=texts --data_dir=pairs --vocabulary=twice.txt": "occurs twice",
    "--checkpoint=run --task=images --config.image_size=12 --data_dir=empty": "holds neither a folder",
    "--checkpoint=run --task=images --config.image_size=12 --data_dir=empty_train": "no folder",
    "--checkpoint=run --task=images --config.image_size=12 --data_dir=flat": "holds neither a folder",
    "--checkpoint=run --task=images --config.image_size=12 --data_dir=one_image": "one class",
    "--checkpoint=run --task=images --config.image_size=14": "multiple of the .* patch, 4",
    "--checkpoint=run --task=images --config.image_size=400000000": "--config.image_size=400000000: is too large",
    "--checkpoint=run --task=images --config.image_size=12 --config.batch=2000000000": "--config.batch=2.*: is too la",
    "--checkpoint=foo://bucket/run --task=texts --data_dir=pairs": "foo://bucket/run: cannot be read",
    "--checkpoint=run --evaluate_only --task=texts --data_dir=pairs": "no finished run of .*finetune",
    "--checkpoint=others/bert --task=texts --data_dir=pairs --config.max_length=20": "for 19 tokens",
    "--checkpoint=others/bert --task=texts --data_dir=pairs --vocabulary=vocab.txt": "is not the one that others/bert was trained with",
    "--checkpoint=plain.npz --task=pets": "plain.npz",
}
_DEMO = {
    "": "--checkpoint is missing",
    "--checkpoint=run --port=0": "port",
    "--checkpoint=run --port=70000": "port",
    "--checkpoint=run --share": "Unknown command line flag 'share'",
    "--checkpoint=none": "none: no such folder, file or preset; give",
    "--checkpoint=export/vitbert": "holds no Keras model; give what it was exported from",
    "--checkpoint=run --compare=none": "none: no such folder, file or preset; give",
}
_TEXT = "--text='the [MASK]'"
_PREDICT = {
    "--text=a": "--checkpoint is missing",
    "--checkpoint=run": "nothing to predict given; give one of --image",
    "--checkpoint=run --image=x --text=a": "--image and --text given; give one",
    "--checkpoint=run --image=x --text_pair=a": "--text_pair has no effect",
    "--checkpoint=run --text=a --columns=a": "--columns has no effect",
    "--checkpoint=run --text=a --format=xml": "format",
    "--checkpoint=run --text=a --top_k=0": "top_k",
    "--checkpoint=run --text=a --top_k=1e3": "top_k",
    "--checkpoint=run --text=a --batch=0": "batch",
    "--checkpoint=none --text=a": "none: no such folder",
    "--checkpoint=empty --text=a": r"empty: holds no model \(there is no config.json\)",
    "--checkpoint=file --text=a": "file: is a file of no known kind",
    "--checkpoint=run --text=": r"--text: has no \[MASK\]",
    "--checkpoint=run --file=masks.tsv": r"masks.tsv, line 3: has no \[MASK\]",
    "--checkpoint=run --image=none.jpg": "none.jpg: no such file",
    "--checkpoint=run --image=empty": "empty: holds no file named .jpeg",
    "--checkpoint=run --image=masks.tsv": "masks.tsv: is not a readable image",
    "--checkpoint=run --image=cut.jpg": "cut.jpg: is not a readable image",
    "--checkpoint=run --image=pipe": r"pipe: cannot be read \(it is a pipe",
    "--checkpoint=fine_tuned_texts --image=image.jpg": "takes no images; give another",
    "--checkpoint=fine_tuned_images --text=a": "takes no texts; give another",
    "--checkpoint=fine_tuned_texts --file=none.tsv": "none.tsv: cannot be read",
    "--checkpoint=fine_tuned_texts --file=image.jpg": "image.jpg: is not a table; give",
    "--checkpoint=fine_tuned_texts --file=pipe": "pipe: is not a table; give",
    "--checkpoint=fine_tuned_texts --file=header.tsv": "holds no examples",
    "--checkpoint=fine_tuned_texts --file=odd.tsv": "odd.tsv, line 3: 2 fields, expected 1",
    "--checkpoint=fine_tuned_texts --file=other.tsv": "but a, b; name it with --columns=A,B",
    "--checkpoint=fine_tuned_texts --file=other.tsv --columns=a,c": "has no column 'c' but a, b",
    "--checkpoint=fine_tuned_texts --file=other.tsv --columns=a,b,a": "--columns=a,b,a: give one or",
    "--checkpoint=fine_tuned_texts --file=other.tsv --columns=a,a": "--columns=a,a: give one or two",
    "--checkpoint=run --text=a --output=empty": "is a folder; give the name of",
    "--checkpoint=run --text=a --output=file/x": "cannot be written to",
    "--checkpoint=others/bert --text=a": r"--text: has no \[MASK\]",
    "--checkpoint=others/bert --image=image.jpg": "takes no images; give another",
    "--checkpoint=others/vit --text=a": "takes no texts; give another",
    "--checkpoint=plain.npz --image=image.jpg": "plain.npz",
}
_EXPORT = {
    "--checkpoint=run": "--output_dir is missing",
    "--output_dir=x": "--checkpoint is missing",
    "--checkpoint=run --output_dir=file/y": "cannot be written to",
    "--checkpoint=run --output_dir=file": "cannot be written to",
    "--checkpoint=run --output_dir=gs://b/c": "give a local folder",
    "--checkpoint=run --output_dir=x --name=a/b": "--name=a/b: not a valid name; use",
    "--checkpoint=run --output_dir=x --dtype=float16": "dtype",
    "--checkpoint=run --output_dir=x --top_k=0": "top_k",
    "--checkpoint=run --output_dir=x --version=0": "version",
    "--checkpoint=run --output_dir=x more": "unexpected argument 'more'",
    "--checkpoint=none --output_dir=x": "none: no such folder",
    "--checkpoint=export/vitbert --output_dir=x": "holds no Keras model; give what it was",
}
_CONVERT = {
    "--output_dir=x": "--checkpoint is missing",
    "--checkpoint=run": "--output_dir is missing",
    "--checkpoint=run --output_dir=gs://bucket/preset": "keras_hub.upload_preset",
    "--checkpoint=run --output_dir=x --task=text_classifier": "has no such head; it has image_classifier",
    "--checkpoint=run --output_dir=x --format=run --task=masked_lm": "has no effect with --format=run",
    "--checkpoint=run --output_dir=x --dtype=bfloat16": "has no effect without --format=run",
    "--checkpoint=others/bert --output_dir=x --format=run": "is not a run of keras_vitbert.pretrain",
    "--checkpoint=run --output_dir=x --tasks=x": "--help lists the flags",
    "--checkpoint=run --output_dir=run": "already exists",
    "--checkpoint=run --output_dir=file": "already exists",
    "--checkpoint=run --output_dir=file/x": "cannot be written",
    "--checkpoint=others/bert --output_dir=x --task=image_classifier": "has no such head; it has masked_lm",
    "--checkpoint=others/deit --output_dir=x --task=masked_lm": "has no such head; it has image_classifier",
    "--checkpoint=none --output_dir=x": "none: no such folder",
}
_FIGURES = {
    "--output=x": "--run is missing; --help lists the flags",
    "--run=run": "--output is missing; --help lists the flags",
    "--run=run --output=x --figures=3,7": "--figures=3,7: '7' is not one of 2, 3, 4, 5, 6; give",
    "--run=run --output=x --figures=": "--figures=: '' is not one of",
    "--run=run --output=x --format=pdf": "--format=pdf: 'pdf' is not one of png, svg; give",
    "--run=run --output=x --examples=0": "examples.*0",
    "--run=run --output=x --blocks=5": "--blocks=5: must be numbers from 0 to 0",
    "--run=run --output=x --blocks=-1": "--blocks=-1: must be numbers from 0 to 0",
    "--run=none --output=x": "--run=none: holds no run of keras_vitbert.pretrain or finetune; give",
    "--run=empty --output=x": "--run=empty: holds no run of keras_vitbert.pretrain or finetune; give",
    "--run=fine_tuned_texts --output=x": "has no predictions of validation; run the fine-tuning again",
    "--run=run --run=run/ --output=x": "--run=run/: is given twice; leave one out",
    "--run=run --output=file": "--output=file: cannot be written to .*; give another",
    "--run=run --ouput=x": "ouput.*--help lists the flags",
}
_RECORDS = {  # config.json of a run
    b"": "config.json is damaged",
    b"{": "config.json is damaged",
    b"[]": "config.json",
    b"[" * 100_000: "config.json",
    b'{"a": "\xe9"}': "config.json",
    b"\x00\xff": "config.json",
}
_CHANGED = (
    ({"variant": "vitbrt"}, "variant is 'vitbrt', not one of"),
    ({"variant": ["vit"]}, r"variant is .'vit'., not one of"),
    ({"records": [1]}, r"records is .1."),
    ({"config.model": None}, "config.model is None"),
    ({"config.model.hidden_dim": "8"}, "hidden_dim='8': must be of type int"),
    ({"config.model.hidden_dim": 9}, "model.hidden_dim is 9, not a multiple of num_heads"),
    ({"config.model.num_layers": -1}, "model.num_layers is -1, not a number from 1"),
    ({"config.model.num_layers": 2}, "step-00000010 cannot be loaded into this model"),
    ({"config.model.num_layers": 10**9}, "num_layers is 10*, not a number from 1 to 10000"),
    ({"config.model.vocabulary_size": 2**31}, "config.json"),
    ({"config.model.image_size": 2**31}, "config.json"),
    ({"config.model.intermediate_dim": 2**30}, "config.json is of a larger model"),
    ({"config.dtype": "floatx"}, "config.dtype is 'floatx', not one of auto, "),
)
_USE = f"keras_vitbert.predict --checkpoint=run {_TEXT}"
_DAMAGED = [
    *((("run/config.json", content), phrase) for content, phrase in _RECORDS.items()),
    *((("run/config.json", changes), phrase) for changes, phrase in _CHANGED),
    (("run/checkpoints/LAST", b"\xff\xfe\n"), "LAST"),
    (("run/checkpoints/LAST", b"step-9\n"), "step-9"),
    (("run/checkpoints/LAST", b"../../run\n"), "LAST|run"),
    (("run/checkpoints/step-00000010/state.index", b"x"), "step-00000010"),
    (("run/checkpoints/step-00000010/state.data-00000-of-00001", b"x"), "step-00000010"),
    (("run/summary.json", b"{"), "summary.json is damaged"),
    (("run/summary.json", {"steps": "x"}), "summary.json"),
    (("run/classes.txt", b"\xff"), "classes.txt"),
    (("run/vocabulary.txt", b"[PAD]\n"), "vocabulary.txt"),
]


def _numbered(line, rows):
    """Rows of one line: a variable of the environment, which nothing reads, tells them apart."""
    return {
        f"ROW={number} {line}": (phrase, dict([change]))
        for number, (change, phrase) in enumerate(rows)
    }


_OTHERS = [  # config.json of models of other projects
    *(
        (("others/vit_model/config.json", changes), phrase)
        for changes, phrase in (
            (b"[]", "config.json"),
            (b"{}", "its config.json is of no known kind"),
            ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000; it has .* tensors: give"),
            ({"num_hidden_layers": "2"}, "num_hidden_layers='2'"),
            ({"hidden_size": 10**12}, "vit_model"),
            ({"hidden_size": 0}, "hidden_size=0"),
            ({"image_size": [{}, {}]}, "image_size={}; which is not supported"),
            ({"image_size": 10**9 * 3}, "vit_model"),
            ({"patch_size": 2}, "patch_size=2; image_size is"),
            ({"hidden_act": "quick"}, "hidden_act='quick'; known are gelu, "),
            ({"architectures": []}, "vit_model"),
            ({"architectures": 3}, "vit_model"),
            ({"architectures": ["RobertaModel"]}, "is RobertaModel, which is not a BERT or ViT"),
        )
    ),
    (("others/vit_model/model.safetensors", b"x"), "model.safetensors is damaged"),
    (("others/vit_model/model.safetensors.index.json", b'{"weight_map": 3}'), "lists no file"),
    (("others/vit_model/preprocessor_config.json", b'{"rescale_factor": null}'), "rescale_factor"),
]
_PRESETS = [
    (("preset/config.json", b"{"), "config.json"),
    (("preset/config.json", {"registered_name": None}), "preset"),
    (("preset/config.json", {"config": None}), "preset"),
    (("preset/config.json", {"config.num_layers": "x"}), "preset"),
    (("preset/config.json", {"config.hidden_dim": 2**40}), "preset"),
    (("preset/config.json", {"config.vocabulary_size": 2**40}), "preset"),
    (("preset/task.json", b"{}"), "preset"),
    (("preset/task.json", b"[1]"), "preset: the preset cannot be loaded"),
    (("preset/model.weights.h5", b"x"), "preset"),
    (("preset/tokenizer.json", b"{"), "preset"),
]
ROWS = {
    **{f"keras_vitbert.pretrain {line}": phrase for line, phrase in _PRETRAIN.items()},
    **{f"keras_vitbert.finetune {line}": phrase for line, phrase in _FINETUNE.items()},
    **{f"keras_vitbert.predict {line}": phrase for line, phrase in _PREDICT.items()},
    **{f"keras_vitbert.export {line}": phrase for line, phrase in _EXPORT.items()},
    **{f"keras_vitbert.convert {line}": phrase for line, phrase in _CONVERT.items()},
    **{f"keras_vitbert.figures {line}": phrase for line, phrase in _FIGURES.items()},
    **{f"keras_vitbert.demo {line}": phrase for line, phrase in _DEMO.items()},
    **_numbered(_USE, _DAMAGED),
    **_numbered("keras_vitbert.convert --checkpoint=others/vit_model --output_dir=x", _OTHERS),
    **_numbered("keras_vitbert.predict --checkpoint=preset --image=image.jpg", _PRESETS),
}
