"""Against `PortableTokenizer`, a character at a time, and TensorFlow Text, whole texts."""

import argparse
import json
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from pipelines.text.tokenization import PortableTokenizer, TextEncoder
from tests.keras_vitbert.trained.portable.written_predict import (
    TEMPLATES,
    characters,
    load_predict,
    write_tokenizer,
)
from tests.pipelines.text.test_portable_tokenizer import ODD, SMALL, fuzz, with_every_character

MARKS = ["[MASK]", "a[MASK][MASK] ab.", "[mask] [MASK]é", "語[MASK]語", "x [SEP] [CLS] [PAD]"]
NAMES = "token_ids", "segment_ids", "padding_mask"
SCRIPT = """
import { readFileSync } from "fs";
import { tokenizer } from "TEMPLATE";
const { table, vocabulary, texts, fills, most } = JSON.parse(readFileSync(0));
const tokenize = tokenizer(table, vocabulary);
console.log(JSON.stringify(texts.map((some) => tokenize(some, fills, most))));
"""


class EveryCharacter(dict):
    """A vocabulary of all characters: words are taken apart to these."""

    def __contains__(self, piece):
        return len(piece.removeprefix("##")) == 1

    def __missing__(self, piece):
        return piece


@pytest.mark.slow
@pytest.mark.parametrize("lower_case", [True, False])
def test_every_character_becomes_what_the_portable_tokenizer_makes_of_it(lower_case, tmp_path):
    write_tokenizer(tmp_path, SMALL, lower_case)
    predict, ours = load_predict(tmp_path), PortableTokenizer(SMALL, lower_case)
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    text = " ".join(f"a{chr(code)}b" for code in codes)
    words = [(word[0], *(f"##{one}" for one in word[1:])) for word in ours._split(text)]
    assert list(predict.tokenize(text, EveryCharacter())) == [p for word in words for p in word]


def test_the_table_is_small():
    size = {case: len(json.dumps(characters(case), ensure_ascii=False).encode()) for case in (1, 0)}
    assert size[True] < 60_000 and size[False] < 5_000


@pytest.fixture(scope="module", params=[True, False], ids=["lower_case", "cased"])
def cases(request):
    """`lower_case`, and rows `(vocabulary, fills, texts, inputs, most)` by TensorFlow Text."""
    texts, rows = [*MARKS, *ODD, *fuzz(int(request.param), 120)], []
    pairs = list(zip(texts, texts[1:] + texts[:1], strict=True))
    for vocabulary in (SMALL, with_every_character(texts)):
        for fills, most in ((False, 1000), (True, 1000), (False, 9)):
            encoder = TextEncoder(vocabulary, most, request.param)
            for some in ([(text,) for text in texts], pairs):
                columns = [tf.constant(column) for column in zip(*some, strict=True)]
                found = [value.numpy() for value in encoder(*columns, masks=fills).values()]
                inputs = [[value[i][found[2][i] > 0] for value in found] for i in range(len(some))]
                rows.append((vocabulary, fills, some, inputs, most))
    return request.param, rows


def test_texts_and_pairs_in_python(cases, tmp_path):
    lower_case, rows = cases
    for vocabulary, fills, texts, inputs, most in rows:
        write_tokenizer(tmp_path, vocabulary, lower_case)
        predict, asked = load_predict(tmp_path), {}
        predict.HEADS = {"mlm", "text"} if fills else {"text"}
        predict.run = lambda head, asked=asked, **inputs: (
            asked.update(inputs) or inputs["token_ids"]
        )
        for given, expected in zip(texts, inputs, strict=True):
            if fills == any("[MASK]" in text for text in given):
                predict.of_text({"max_length": most}, argparse.Namespace(text=given))
                for name, value in zip(NAMES, expected, strict=True):
                    assert asked[name].dtype == np.int32
                    assert asked[name].tolist() == [value.tolist()], (ascii(given), name)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_texts_and_pairs_in_javascript(cases):
    lower_case, rows = cases
    script = SCRIPT.replace("TEMPLATE", (TEMPLATES / "page.mjs").as_uri())
    for vocabulary, fills, texts, inputs, most in rows:
        asked = {"table": characters(lower_case), "vocabulary": vocabulary, "texts": texts}
        done = subprocess.run(
            ["node", "--input-type=module", "-e", script],
            input=json.dumps(asked | {"fills": fills, "most": most}).encode(),
            capture_output=True,
            check=True,
        )
        found = json.loads(done.stdout)
        for text, ours, (ids, segments, _) in zip(texts, found, inputs, strict=True):
            assert ours["ids"] == ids.tolist(), ascii(text)
            assert ours["segments"] == segments.tolist(), ascii(text)
