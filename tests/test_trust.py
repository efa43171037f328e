"""A short form of the benchmark that kills runs, which itself takes long."""

import pytest

from benchmarks import crashes


@pytest.mark.thorough
def test_killed_jobs_end_the_same():
    assert crashes.main(["--kills=4", "--jobs=finetune,text_examples"]) == 0
