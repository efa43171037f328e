"""The `optimizer` section: names of optimisers and their settings."""

import dataclasses

from keras_vitbert.configs.sections import Section, choice, ranged

# What an optimiser reads besides rate, schedule and weight decay, with the values that it gets
# where a command line names it but not these.
_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6}
OPTIONS = {
    "adamw": _ADAM,
    "lamb": _ADAM,
    "lion": {"beta_1": 0.9, "beta_2": 0.99},
    "adafactor": {},
    "sgd": {"momentum": 0.9},
}
# Values that an optimiser keeps for each weight.
KEPT = {"adamw": 2, "lamb": 2, "lion": 1, "adafactor": 1, "sgd": 1}
SCHEDULES = ("cosine", "polynomial")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Section):
    """An optimiser and its rate, for pre-training and fine-tuning."""

    name: str = choice("adamw", OPTIONS)  # or lamb, lion, adafactor, sgd
    learning_rate: float = ranged(1e-4, "[0, inf)")  # the peak; missing in our copy of the paper
    decay_power: float = ranged(1.0, "[0, inf)")  # of the polynomial schedule; not in the paper
    momentum: float = ranged(0.9, "[0, 1)")  # of SGD
    # Of AdamW, LAMB and Lion; missing in our copy of the paper
    beta_1: float = ranged(0.9, "[0, 1)")
    beta_2: float = ranged(0.999, "[0, 1)")  # missing in our copy of the paper
    epsilon: float = ranged(1e-6, "(0, inf)")  # of AdamW and LAMB; not in the paper
    weight_decay: float = ranged(0.01, "[0, inf)")  # of kernels, word and segment embeddings
    # Of the merged gradient; not in the paper for pre-training, nor for text
    clip_norm: float = ranged(1.0, "(0, inf)")
    ema: float = ranged(0.0, "[0, 1)")  # momentum of the moving average of weights; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "lion":
            self.require(self.beta_1 > 0, "beta_1", "above 0 for lion")
        if OPTIONS[self.name] is _ADAM:
            holds = self.beta_1**2 < self.beta_2
            bound = f"below the root of beta_2, {self.beta_2}: Adam need not converge otherwise"
            self.require(holds, "beta_1", bound)

    @property
    def moments(self) -> int:
        """How many values are kept for each weight."""
        return KEPT[self.name] + (self.ema > 0)

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        known = {option for options in OPTIONS.values() for option in options}
        return dict.fromkeys(known - OPTIONS[self.name].keys(), f"optimizer.name={self.name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingOptimizer(Optimizer):
    """The paper's: linear warm-up, then polynomial decay."""

    warmup_steps: int = ranged(10_000, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningOptimizer(Optimizer):
    """With the schedule of a task."""

    schedule: str = choice("polynomial", SCHEDULES)  # or cosine
    warmup: float = ranged(0.1, "[0, 1)")  # fraction of all steps; not in the paper
    # Of the rate, from block to block downwards; 1: the same everywhere
    layer_decay: float = ranged(1.0, "(0, 1]")

    def unread(self) -> dict[str, str]:
        """See `Optimizer.unread`."""
        cosine = {"decay_power": "optimizer.schedule=cosine"} if self.schedule == "cosine" else {}
        return super().unread() | cosine
