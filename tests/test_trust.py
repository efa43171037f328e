"""Short forms of the benchmarks that kill runs and damage files, which themselves take long."""

import pytest

from benchmarks import crashes, damage
from tests.forked import Forked


@pytest.mark.thorough
def test_killed_jobs_end_the_same():
    assert crashes.main(["--kills=4", "--jobs=finetune,text_examples"]) == 0


@pytest.mark.thorough
def test_damaged_files_give_no_wrong_answers():
    # In a process of its own, as it leaves networks built once behind.
    status, errors = Forked(damage.main, ["--flips=24"]).end(900)
    assert status == 0, errors[-3000:]
