import math
import os

import pytest

from pipelines import memory


def test_the_memory_of_this_machine():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e8 < memory.available_memory() <= physical
    assert 1e8 < memory.all_memory() < 2 * physical


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 9 << 20), ("2097152", 3 << 20), (str(1 << 62), 9 << 20)]
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "meminfo").write_text("MemTotal: 8192 kB\nSwapTotal: 1024 kB\nHugePages: 0\n")
    (tmp_path / "max").write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "max", tmp_path / "nowhere"))
    assert memory.all_memory() == expected


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    monkeypatch.setattr(memory, "_LIMITS", ())
    assert memory.available_memory() == memory.all_memory() == math.inf
