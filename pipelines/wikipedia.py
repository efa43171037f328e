"""Extracts the articles of a Wikipedia dump as documents of prose paragraphs.

    python -m pipelines.wikipedia \\
        --dump=enwiki-latest-pages-articles-multistream.xml.bz2 --output=PREFIX

The dump comes from https://dumps.wikimedia.org, whole or in several files, and is read as it is.
A bzip2 stream is unpacked by one worker; those of a multistream dump are small.
Every line of the output `PREFIX-00000-of-...` is one article,
`{"title": ..., "paragraphs": [...]}`. Lists, tables, headings, captions, references, templates,
redirects and disambiguation pages are left out. The same command resumes a run that was stopped.

All cores of this machine work, or four processes with `-- --direct_num_workers=4`. Apache Beam, if
installed, runs the work elsewhere: `-- --runner=DataflowRunner --project=... --region=...
--temp_location=gs://... --setup_file=./setup.py`.
"""

import sys

from pipelines import command_line
from pipelines.prepare import jobs, wikipedia


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    files = "Files of the dump: comma-separated paths or patterns, local or gs://."
    flags = [("dump", None, files)]
    jobs.main(argv, str(__doc__), flags, lambda values: wikipedia.job(values.dump))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
