import math
import os

import pytest

from pipelines import memory


def test_the_memory_of_this_machine():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e8 < memory.available_memory() <= physical


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("max", 1622016, 4 << 20),
        ("2097152", 1622016, 704_512),
        (str(1 << 62), 1622016, 4 << 20),
        ("2097152", 1_000_000_000, 0),
    ],
)
def test_what_a_container_uses_is_not_free(tmp_path, monkeypatch, limit, used, expected):
    """Cached files are: the system drops them."""
    (tmp_path / "meminfo").write_text("MemTotal: 8192 kB\nMemAvailable: 4096 kB\nHuge: 0\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 1392640\ninactive_file 196608\nactive_file 32768\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert memory.available_memory() == expected


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert memory.available_memory() == math.inf
