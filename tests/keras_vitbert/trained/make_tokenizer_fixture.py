"""Computes the ids in `fixtures/tokens.json` again: those that BERT's tokenizer gives its lines.

    python -m tests.keras_vitbert.trained.make_tokenizer_fixture

`lines` are of many scripts. In `different` are those where the pipeline's tokenizer does otherwise,
lower case: it writes compatibility characters out and folds case in full, and takes most control
characters for spaces. The vocabulary holds every character of the lines, unchanged and as a
tokenizer may change it. The reference is BertWordPieceTokenizer of Hugging Face's `tokenizers`,
lower case; made with 0.23.
"""

import json
import pathlib

from tokenizers import BertWordPieceTokenizer

PATH = pathlib.Path(__file__).parent / "fixtures" / "tokens.json"


def main():
    content = json.loads(PATH.read_text("utf-8"))
    ids = {token: number for number, token in enumerate(content["vocabulary"])}
    tokenizer = BertWordPieceTokenizer(vocab=ids, lowercase=True)
    for kind in ("lines", "different"):
        lines = [line for line, _ in content[kind]]
        encodings = tokenizer.encode_batch(lines, add_special_tokens=False)
        content[kind] = [[text, each.ids] for text, each in zip(lines, encodings, strict=True)]
    PATH.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
