"""The masked words that a run shows at its end, against one example after the other."""

import numpy as np

from keras_vitbert import load
from keras_vitbert.experiments.pretraining.report import describe
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP
from tests.keras_vitbert.tiny_runs import VOCABULARY, summary_of
from tests.keras_vitbert.whole_runs import examples_of, text_inputs_of


def test_the_longest_right_word_and_the_first_wrong_one_are_shown(finished, sources):
    folder = finished("joint")
    network, words = load(str(folder)).network, []
    for example in examples_of(sources, "text", "validation"):
        fields = (example[f"masked_lm_{name}"] for name in ("positions", "ids", "weights"))
        logits = np.array(network(text_inputs_of(example))["mlm_logits"])[0]
        for place, answer, weight, scores in zip(*fields, logits, strict=True):
            if weight and VOCABULARY[example["input_ids"][place]] == MASK:
                best = np.argsort(-scores, kind="stable")[:3]
                words.append((VOCABULARY[answer], [VOCABULARY[token] for token in best]))
    right = sorted((w for w in words if w[0] == w[1][0]), key=lambda w: -len(w[0]))
    wrong = [w for w in words if w[0] != w[1][0]]
    shown = summary_of(folder)["masked_words"]
    assert [(w["answer"], w["guesses"]) for w in shown] == right[:1] + wrong[:1]
    assert wrong and all(word["text"].count(MASK) == 1 for word in shown)
    assert not any(mark in word["text"] for word in shown for mark in (CLS, SEP, PAD))


def test_a_finished_run_of_before_is_described_without_them(finished):
    summary = summary_of(finished("joint"))
    del summary["masked_words"]
    assert "next-sentence accuracy" in describe(summary, "folder")
