"""Short forms of the benchmarks that kill runs and damage files, which themselves take long."""

import pytest

from benchmarks import crashes, damage


@pytest.mark.slow
def test_killed_jobs_end_the_same():
    assert crashes.main(["--kills=4", "--jobs=finetune,text_examples"]) == 0


@pytest.mark.slow
def test_damaged_files_give_no_wrong_answers():
    assert damage.main(["--flips=60"]) == 0
