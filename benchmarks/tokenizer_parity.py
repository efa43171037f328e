"""Compares the tokenizer of the text pipeline with BERT's reference, and lists where they differ.

    python -m benchmarks.tokenizer_parity [--vocabulary=vocab.txt] [--cased] FILE...
    python -m benchmarks.tokenizer_parity --characters

The pipeline uses tensorflow-text's FastBertTokenizer; the reference is BertWordPieceTokenizer of
Hugging Face's `tokenizers`, which transformers uses. FILE is a text, compared line by line, or a
dump of Wikipedia (.bz2), compared by sentences. --characters compares each character of Unicode, in
a word and by itself. Without --vocabulary every character is a token, so every difference shows.

It prints how many lines, tokens and lines that differ there are, and the words that differ, the
most common first: at most --shown of them (40), then how many more there are.
"""

import argparse
import collections
import os
import sys
import unicodedata

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_BATCH = 4096  # lines


def main():
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--vocabulary", help="a vocab.txt")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--characters", action="store_true", help="all of Unicode's")
    parser.add_argument("--shown", type=int, default=40, help="how many differing words to print")
    arguments = parser.parse_args()
    lines = [f"a{character}b {character}" for character in characters() if arguments.characters]
    lines += [line for file in arguments.files for line in read_lines(file)]
    if not lines:
        sys.exit("nothing to compare; give files or --characters")
    vocabulary = read(arguments.vocabulary) if arguments.vocabulary else all_characters(lines)
    ours, reference = tokenizers(vocabulary, lower_case=not arguments.cased)
    report(lines, vocabulary, ours, reference, arguments.shown)


def tokenizers(vocabulary, lower_case=True):
    """The pipeline's tokenizer and the reference: functions of a list of str to lists of ids."""
    import tensorflow as tf
    import tensorflow_text as tf_text
    from tokenizers import BertWordPieceTokenizer

    fast = tf_text.FastBertTokenizer(
        vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
    )
    ids = {token: number for number, token in enumerate(vocabulary)}
    reference = BertWordPieceTokenizer(vocab=ids, lowercase=lower_case)
    return (
        lambda texts: fast.tokenize(texts).to_list(),
        lambda texts: [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)],
    )


def report(lines, vocabulary, ours, reference, shown):
    """Prints the differences."""
    tokens, different, words = 0, 0, collections.Counter()
    for start in range(0, len(lines), _BATCH):
        batch = lines[start : start + _BATCH]
        wanted = reference(batch)
        tokens += sum(map(len, wanted))
        bad = [line for line, a, b in zip(batch, ours(batch), wanted, strict=True) if a != b]
        different += len(bad)
        if not bad:
            continue
        parts = [word for line in bad for word in line.split()]
        for word, a, b in zip(parts, ours(parts), reference(parts), strict=True):
            if a != b:
                words[word] += 1
    print(f"{len(lines):,} lines, {tokens:,} tokens: {different:,} lines differ")
    for word, count in words.most_common(shown):
        [a], [b] = ours([word]), reference([word])
        unusual = sorted({c for c in word if not c.isascii() or not c.isprintable()})
        names = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in unusual)
        print(
            f"{count:6,} {word!r:24} reference {' '.join(vocabulary[i] for i in b)!r:30} "
            f"here {' '.join(vocabulary[i] for i in a)!r:30} {names}"
        )
    if len(words) > shown:
        print(f"       and {len(words) - shown:,} more words")


def characters():
    """All characters that Unicode assigns, except private ones."""
    numbers = (chr(number) for number in range(0x20, 0x30000))
    return [c for c in numbers if unicodedata.category(c) not in ("Cn", "Co", "Cs")]


def all_characters(lines):
    """A vocabulary of every character, unchanged and as either tokenizer may change it."""
    found = set()
    for character in {character for line in lines for character in line}:
        for form in ("NFC", "NFD", "NFKD"):
            for changed in (character, character.lower(), character.casefold()):
                found |= set(unicodedata.normalize(form, changed))
    found = sorted(c for c in found if not c.isspace())
    return [*SPECIAL_TOKENS, *found, *(f"##{c}" for c in found)]


def read(path):
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\r\n") for line in file]


def read_lines(path):
    if not path.endswith(".bz2"):
        return read(path)
    from pipelines.prepare import wikipedia
    from pipelines.text.tokenization import sentences_of

    return [line for document in wikipedia.read_documents(path) for line in sentences_of(document)]


if __name__ == "__main__":
    main()
