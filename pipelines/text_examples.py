"""Makes BERT's pre-training examples from documents: segment pairs, 15 % of their tokens masked.

    python -m pipelines.text_examples --documents='wiki/*-of-*,books/*-of-*' \\
        --vocabulary=vocab.txt --output=gs://bucket/examples/text [--shards=64] \\
        [--duplication=10] [--whole_word] ... [-- --runner=DataflowRunner --project=... ]

Documents are those of `pipelines.wikipedia` and `pipelines.books`, or files in the format of
Google's BERT: one sentence a line, blank lines between documents. What follows `--` says where
the work is done, see `pipelines.wikipedia`. The same command resumes a run that was stopped.

The recipe is in `pipelines.text.bert_examples`. The text is processed in units of about
`--unit_megabytes`; no more than one is ever in memory. A unit's documents are tokenized once for
all passes over them. Random second segments come from other documents of the unit. The examples of
all passes are shuffled before they are written. A document as large as a unit may be alone in one;
it has no random second segments.

Examples do not depend on the number of shards and workers. With `--dynamic_masking` the files hold
pairs without masks, and the training stream masks them anew in every epoch.
"""

import sys

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.prepare import jobs, text_examples
from pipelines.text.bert_examples import MAX_LENGTH, MIN_LENGTH


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    flags = [
        ("documents", None, "Comma-separated patterns of document files."),
        ("vocabulary", None, "vocab.txt, of `python -m pipelines.vocabulary` or of Google's BERT."),
        ("max_length", 512, "Tokens of an example.", MIN_LENGTH, MAX_LENGTH),
        (
            "max_predictions",
            None,
            "Masked tokens of an example at most. Default: 15 % of all.",
            1,
            MAX_LENGTH,
        ),
        ("duplication", 10, "Passes over the text, each with other pairs and masks.", 1),
        ("seed", 0, "Seed of pairs, masks and shuffles.", 0, MAX_SEED),
        ("unit_megabytes", 8.0, "Text that is in memory at a time.", 1e-3),
        ("cased", False, "The vocabulary distinguishes upper case from lower."),
        ("whole_word", False, "Mask the pieces of a word together."),
        ("dynamic_masking", False, "Write no masks: training masks anew in every epoch."),
    ]
    jobs.main(argv, str(__doc__), flags, text_examples.job)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
