"""Imported text models as teachers."""

from tests.keras_vitbert.importing.stored_models import assert_close, call, expected, load


def test_next_sentence_head_of_a_masked_lm_model():
    assert load("bert").has_next_sentence and not load("masked_lm").has_next_sentence


def test_logits_of_words_that_the_student_lacks_are_cut_off():
    batch, wanted = expected("bert")
    logits = call(load("bert", columns=30), batch)
    wanted["mlm_logits"] = wanted["mlm_logits"][..., :30]
    assert_close(logits, wanted)
