"""When masks are refreshed, and by how many entries."""

import types

import numpy as np
import pytest

from keras_vitbert.merging import GradientMask
from keras_vitbert.merging.masks import MaskSchedule


def requests(schedule, size, steps, executed=1, bad=(), lost=None):
    """What the schedule asks a trainer for: dict of a step to the entries to clear in the next.

    `bad` steps are not applied; after some masks are restored, which have `lost` some entries.
    """
    lost = lost or {}
    asked, mask = {}, GradientMask()
    mask.make_masks([types.SimpleNamespace(path="block_0/kernel", shape=(size,))])

    def clear(count):
        mask.masks[0].assign(np.arange(size) >= sum(mask.cleared) + count)

    model = types.SimpleNamespace(step=0, merge=types.SimpleNamespace(mask=mask), bad_steps=())
    model.request_gradient_stats = lambda counts: asked.update({model.step: counts.item()})
    schedule.set_model(model)
    schedule.on_train_begin()
    for model.step in range(0, steps, executed):
        schedule.on_train_batch_begin(0)
        model.bad_steps = (model.step,) if model.step in bad else ()
        if not model.bad_steps and model.step in asked:
            clear(asked[model.step])
        if model.step in lost:
            clear(-lost[model.step])
    return asked


@pytest.mark.parametrize(
    ("size", "ratio", "ratio_per_update", "updates"),
    [(100, 0.5, 0.1, 5), (85_057, 0.5, 0.2, 3), (448, 1.0, 0.3, 4)],
)
def test_the_sparsity_grows_to_its_ratio_and_stays(size, ratio, ratio_per_update, updates):
    asked = requests(MaskSchedule(10, ratio, ratio_per_update), size, 200)
    assert list(asked) == [10 * number for number in range(1, updates + 1)]
    assert all(clear > 0 for clear in asked.values())
    cleared = 0
    for number, clear in enumerate(asked.values(), 1):
        cleared += clear
        # Rounded once from the total: no error adds up.
        assert abs(cleared - min(number * ratio_per_update, ratio) * size) <= 0.5 + 1e-9
    assert abs(cleared - ratio * size) <= 0.5


def test_nothing_is_asked_for_where_nothing_would_be_cleared():
    assert requests(MaskSchedule(10, 0.0, 0.1), 100, 100) == {}
    # Of few entries some updates clear none: 0.1 of 3 is rounded to 0, 0.2 of them to 1.
    assert requests(MaskSchedule(10, 0.5, 0.1), 3, 100) == {20: 1, 50: 1}


def test_executions_of_several_steps_end_where_it_is_due():
    whole = requests(MaskSchedule(10, 0.5, 0.1), 448, 100)
    assert requests(MaskSchedule(10, 0.5, 0.1), 448, 100, executed=5) == whole


def test_what_a_bad_step_did_not_clear_is_cleared_in_the_next():
    def asked(**options):
        return requests(MaskSchedule(10, 0.5, 0.25), 100, 30, **options)

    assert asked() == {10: 25, 20: 25}
    assert asked(bad=(10, 11, 15)) == {10: 25, 11: 25, 12: 25, 20: 25}
    # Training goes back from step 25 to masks of before step 20.
    assert asked(bad=(25,), lost={25: 25}) == {10: 25, 20: 25, 26: 25}


@pytest.mark.parametrize(
    ("epochs", "of_each", "interval"),
    [(1, 10**6, 10**4), (3, 53, 2), (1, 9, 1)],
)
def test_the_proportions_of_the_paper(epochs, of_each, interval):
    """An update after each 1 % of the steps of `fit`; complete after 5 %."""
    schedule = MaskSchedule()
    schedule.set_params({"epochs": epochs, "steps": of_each})
    asked = requests(schedule, 100, min(epochs * of_each, 8 * interval), interval)
    assert asked == {number * interval: 10 for number in range(1, 6)}


def test_an_unknown_number_of_steps_is_refused():
    schedule = MaskSchedule()
    schedule.set_params({"epochs": 10, "steps": None})
    with pytest.raises(ValueError, match="steps_per_epoch"):
        schedule.on_train_begin()
