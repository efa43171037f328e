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
    paths = (tmp_path / "max", tmp_path / "current", tmp_path / "stat")
    monkeypatch.setattr(memory, "_CONTAINERS", (paths, (tmp_path / "nowhere",) * 3))
    assert memory.all_memory() == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 4 << 20), ("2097152", 704_512), (str(1 << 62), 4 << 20)]
)
def test_what_a_container_uses_is_not_free(tmp_path, monkeypatch, limit, expected):
    """Cached files are: the system drops them."""
    (tmp_path / "meminfo").write_text("MemTotal: 8192 kB\nMemAvailable: 4096 kB\n")
    (tmp_path / "max").write_text(f"{limit}\n")
    (tmp_path / "current").write_text("1622016\n")
    (tmp_path / "stat").write_text("anon 1392640\ninactive_file 196608\nactive_file 32768\n")
    paths = (tmp_path / "max", tmp_path / "current", tmp_path / "stat")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINERS", ((tmp_path / "nowhere",) * 3, paths))
    assert memory.available_memory() == expected
    (tmp_path / "current").write_text("1000000000\n")
    assert memory.available_memory() == (0 if limit == "2097152" else expected)


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    monkeypatch.setattr(memory, "_CONTAINERS", ())
    assert memory.available_memory() == memory.all_memory() == math.inf
