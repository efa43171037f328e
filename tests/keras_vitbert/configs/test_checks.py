"""What is checked of any config."""

import re

import pytest
from ml_collections import config_dict

from keras_vitbert.configs.checks import (
    Requirements,
    check_types,
    require_shares,
)

KNOWN = {"steps": 5, "rate": 0.1, "flip": True, "name": "x", "area": [0.5, 1.0]}


@pytest.mark.parametrize(
    "change", [{}, {"rate": 1}, {"rate": -2.5}, {"flip": False}, {"area": [1, 2, 3]}, {"area": []}]
)
def test_types_that_fit(change):
    check_types({**KNOWN, **change}, KNOWN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5.0}, "--config.steps=5.0: must be of type int"),
        ({"steps": True}, "--config.steps=True: must be of type int"),
        ({"steps": 10**30}, r"--config.steps=10{30}: must be below 2\*\*31"),
        ({"flip": 1}, "--config.flip=1: must be of type bool"),
        ({"rate": True}, "--config.rate=True: must be of type float"),
        ({"rate": float("inf")}, "--config.rate=inf: must be finite"),
        ({"rate": float("nan")}, "--config.rate=nan: must be finite"),
        ({"area": [1, "2"]}, r"--config.area=\[1, '2'\]: must be of type list of numbers"),
        ({"area": 1.0}, "--config.area=1.0: must be of type list of numbers"),
        ({"stps": 5}, r"holds stps, which nothing reads \(did you mean steps\?\)"),
    ],
)
def test_types_that_do_not_fit_are_told(change, message):
    with pytest.raises(ValueError, match=message):
        check_types({**KNOWN, **change}, KNOWN)


def test_all_types_that_do_not_fit_are_told_at_once():
    message = r"^--config.steps='5': .*; the config holds x, .*; --config.flip=1: .* type bool$"
    with pytest.raises(ValueError, match=message):
        check_types({"steps": "5", "rate": 0.5, "x": 1, "flip": 1}, KNOWN)


def test_requirements_name_key_value_and_fix():
    checks = Requirements({"a": 2, "b.c": "x"})
    checks.require(True, "a", "must be anything")
    checks.at_least(2, "a")
    checks.one_of("b.c", ("x", "y"))
    checks.raise_problems()
    checks.at_least(3, "a")
    checks.at_least(4, "a")  # one problem a key is enough
    checks.one_of("b.c", ("y", "z"))
    message = "^--config.a=2: must be at least 3; --config.b.c=x: must be one of y, z$"
    with pytest.raises(ValueError, match=message):
        checks.raise_problems()


def test_a_bad_value_conflicts_with_no_other():
    checks = Requirements({"whole": 7, "part": 0, "other": 2})
    checks.at_least(1, "part")
    checks.multiple("whole", "part")  # which would divide by 0
    checks.multiple("whole", "other")
    assert list(checks.problems) == ["part", "whole"] and checks.conflicts == {"whole"}
    with pytest.raises(ValueError, match="^--config.part=0: must be at least 1$"):
        checks.raise_problems(conflicts=False)
    with pytest.raises(ValueError, match="which is 2; this works, added to the command: --x=1$"):
        checks.raise_problems(works="--x=1")


def test_batches_in_parts():
    def told(batch, parts, mixed=False):
        config = config_dict.ConfigDict({"batch": batch, "accumulation": parts})
        try:
            require_shares(config, "batch", 2, mixed)
        except ValueError as error:
            return str(error)
        return None

    assert told(12, 3) is told(12, 3, mixed=True) is told(16, 4, mixed=True) is None
    assert told(10, 3) == (
        "--config.batch=10: must be a multiple of the number of replicas, 2, times 3 parts "
        "(accumulation); the nearest are 6 or 12"
    )
    assert "times 3 parts (accumulation), times 2 as images are mixed" in told(18, 3, mixed=True)
    assert "times 4 parts (accumulation); the nearest are 8 or 16" in told(12, 4, mixed=True)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
def test_batches_that_replicas_share(replicas, mixed):
    """The nearest that are named are the nearest of all that are taken, by trying each."""

    def is_taken(batch):
        try:
            require_shares(config_dict.ConfigDict({"batch": batch}), "batch", replicas, mixed)
        except ValueError:
            return False
        return True

    taken = [batch for batch in range(1, 60) if is_taken(batch)]
    # Each replica has as many; if they are mixed in pairs, an even number.
    whole = [batch for batch in range(1, 60) if batch % replicas == 0]
    assert taken == [batch for batch in whole if not mixed or batch // replicas % 2 == 0]
    for batch in set(range(1, 40)) - set(taken):
        with pytest.raises(ValueError) as caught:
            require_shares(config_dict.ConfigDict({"batch": batch}), "batch", replicas, mixed)
        told = re.search(
            r"replicas, (\d+).*the nearest are (\d+)(?: or (\d+))?$", str(caught.value)
        )
        below = [number for number in taken if number < batch][-1:]
        above = [number for number in taken if number > batch][:1]
        assert [int(number) for number in told.groups() if number] == [replicas, *below, *above]
