"""Rows of `python -m pipelines.*`, see `table.py`."""

_WIKIPEDIA = {
    "--output=x": "--dump is missing",
    "--dump=x": "--output is missing",
    "--dump=nowhere.bz2 --output=x": "no file matches nowhere.bz2; fix --dump",
    "--dump=cake://x --output=x": "cake",
    "--dump=no_pages.xml --output=x": "--output=x: nothing to write, the inputs hold no",
    "--dump=plain.xml --output=x": "is no MediaWiki dump, it begins with",
    "--dump=x --output=x --shards=0": "shards",
    "--dump=x --output=x --runner=DirectRunner": "Unknown command line flag 'runner'",
    "--dump=plain.xml --output=file/x": "file/x.*cannot be (written|read)",
}
_BOOKS = {
    "--folder=none --output=x --shards=1": "none.*no such folder",
    "--folder=empty --output=x --shards=1": r"no \*.txt files",
    "--folder=no_words --output=x --shards=1": "--output=x: nothing to write, the inputs hold no words",
    "--folder=no_words --output=x --shards=4": "there are 1 books",
    "--folder=no_words --shards=1": "--output is missing",
    "--output=x --shards=1": "--folder is missing",
    "--folder=no_words --output=x": "--shards is missing",
    "--folder=no_words --output=file/x --shards=1": "file/x.*cannot be (written|read)",
    "--folder=no_words --output=x --shards=many": "shards.*--help",
}
_VOCABULARY = {
    "--output=x": "--documents is missing",
    "--documents=file": "--output is missing",
    "--documents=none --output=x": "no file matches none",
    "--documents=file --output=x --size=99": "--size",
    "--documents=file --output=x --max_megabytes=-1": "max_megabytes",
    "--documents=objects.json --output=x": "objects.json: the line at byte 0",
    "--documents=deep.json --output=x": "deep.json: the line at byte 0",
    "--documents=file --output=vocab.txt": "--output=vocab.txt: is there already",
    "--documents=file --output=file/x": "cannot be written to",
    "--documents=file --output=cake://folder/x": "cannot be written to",
}
_EXAMPLES = {
    "--documents=none --vocabulary=vocab.txt --output=x --shards=1": "no file matches none; fix --do",
    "--documents=file --vocabulary=none --output=x --shards=1": "none: no such vocabulary",
    "--documents=file --vocabulary=twice.txt --output=x --shards=1": "is there twice",
    "--documents=file --vocabulary=latin1.txt --output=x --shards=1": "cannot be read as a vocabula",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1": "give two or more",
    "--documents=deep.json --vocabulary=vocab.txt --output=x --shards=1": "the line at byte 0",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=9": "units of --unit_megabytes; give",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --cased": "leave out --cased",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --max_length=4": "--max_length",
    "--documents=file --vocabulary=cherokee.txt --output=x --shards=1 --cased": "leave out --cased",
    "--documents=file --vocabulary=cherokee.txt --output=x --shards=1": "give two or more",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --max_length=2000000000": "--max_length",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --max_predictions=2000000000": "--max_predictions",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --unit_megabytes=nan": "finite",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --unit_megabytes=inf": "finite",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --unit_megabytes=-1": "unit_mega",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --unit_megabytes=1e300": "give two or more",
    "--documents=file --vocabulary=vocab.txt --shards=1": "--output is missing",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --duplicaton=2": "--help",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --seed=-1": "seed",
    "--documents=file --vocabulary=vocab.txt --output=x --shards=1 --seed=4294967296": "seed.*--help",
}
_IMAGENET = {
    "--output=o": "no images; give --train_tar=FILE .* --folder=DIR",
    "--train_tar=x": "--output is missing",
    "--train_tar=x --folder=y --output=o": "--train_tar and --folder are two sources",
    "--folder=x --train_folder=y --output=o": "--folder and --train_folder are two",
    "--folder=x --manual_dir=y --output=o": "--manual_dir needs --tfds_data_dir",
    "--train_tar=x --validation_labels=y --output=o": "needs --validation_tar",
    "--folder=x --output=o --seed=-1": "(?i)seed",
    "--folder=x --output=o --seed=4294967296": "seed.*--help",
    "--folder=none --output=o": "--folder=none: no such folder",
    "--folder=empty --output=o": "holds neither train nor val nor validation",
    "--train_folder=none --output=o": "none: no such folder",
    "--train_folder=one_image --output=o --train_shards=25": "there are 1 im",
    "--train_tar=none.tar --output=o": "none.tar: cannot be read .*No such file",
    "--train_tar=file --output=o": "file: ",
    "--tfds_data_dir=none --output=o": "holds no imagenet2012/VERSION",
    "--tfds_data_dir=o --manual_dir=none --output=o": "holds no ILSVRC2012_img_tr",
}
_MANIFEST = {
    "": "--files is missing",
    "--files=none*": "no file matches none",
    "--files=cake://x": "--files=cake://x: File system scheme 'cake' not implemented",
    "--files=records": "records: record 0: ",
    "--files=zeros": "zeros: record 0: ",
    "--files=records --check": "records",
    "--files=pipe": "pipe",
}
_SAMPLE = {
    "--sed=1": "sed.*--help",
    "--seed=x": "seed.*--help",
    "--seed=-1": "seed.*--help",
    "--seed=4294967296": "seed.*--help",
    "--max_length=2": "max_length.*--help",
    "--max_length=2000000000": "max_length.*--help",
    "--vocabulary_size=9": "vocabulary_size.*--help",
    "--duplication=0": "duplication.*--help",
    "stray": "stray.*--help",
    "--cache_dir=file": "cache_dir=file|file",
}
ROWS = {
    f"pipelines.{name} {line}": phrase
    for name, lines in {
        "wikipedia": _WIKIPEDIA,
        "books": _BOOKS,
        "vocabulary": _VOCABULARY,
        "text_examples": _EXAMPLES,
        "imagenet": _IMAGENET,
        "manifest": _MANIFEST,
        "sample": _SAMPLE,
    }.items()
    for line, phrase in lines.items()
}
