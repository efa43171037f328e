"""A job whose output is known, and what its files must hold."""

import dataclasses
import glob
import os
from typing import ClassVar

from pipelines.prepare.jobs import ShardJob, Workers

ONE_PROCESS = Workers(1)


@dataclasses.dataclass(frozen=True)
class CountingJob(ShardJob):
    """Shard s holds s + 1 lines; those in `bad` have damage, those in `failing` an error."""

    step: int = 1
    bad: tuple[int, ...] = ()
    failing: dict = dataclasses.field(default_factory=dict)
    made: list = dataclasses.field(default_factory=list)
    vocabulary_sha256: str | None = None
    kind: ClassVar[str] = "documents"
    unit: ClassVar[str] = "tokens"

    def settings(self):
        return {"step": self.step, "pair": (1, 2)}

    def size(self):
        return 3, 9, "numbers"

    def write_shard(self, shard, shards, file):
        self.made.append(shard)
        for number in range(shard + 1):
            file.write(b"%d" % (number * self.step))
        if shard in self.failing:
            raise self.failing[shard]
        damaged = [{"file": f"in{shard}.txt", "record": 7, "reason": "torn"}] * (shard in self.bad)
        return {"tokens": 10 * shard, "lines": shard + 1}, damaged


def content(prefix):
    return {os.path.basename(path): open(path, "rb").read() for path in glob.glob(f"{prefix}-*")}


def expected(shards, step=1):
    return {
        f"out-{shard:05d}-of-{shards:05d}": b"".join(b"%d\n" % (n * step) for n in range(shard + 1))
        for shard in range(shards)
    }
