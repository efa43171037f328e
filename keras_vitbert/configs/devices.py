"""What a config leaves to the devices: the dtype, the steps of an execution, and XLA."""

import dataclasses
import math

from pipelines.images.keras_cv_layers import not_for_xla

DTYPES = ("auto", "float32", "mixed_bfloat16")
JIT_COMPILE = ("auto", "on", "off")
SHARDINGS = ("replicated", "fsdp")
_BFLOAT16 = (8, 0)  # the compute capability of the first GPUs that multiply in it
_ON_TPU, _ON_GPU = 100, 10  # most steps of an execution


@dataclasses.dataclass(frozen=True)
class Devices:
    """What computes a step."""

    on_tpu: bool = False
    gpus: tuple[tuple[int, int], ...] = ()  # the compute capability of each
    replicas: int = 1  # that share a batch
    shared: bool = False  # whether a strategy shares batches, even with a single replica
    on_jax: bool = False

    def check(self, sharding: str, layers: tuple[dict, ...]) -> None:
        """Refuses what the backend or a TPU cannot do: sharded weights, layers of images."""
        if sharding != "replicated" and not self.on_jax:
            raise ValueError(f"sharding={sharding!r}: TensorFlow shards no weights; JAX does")
        if layers and self.on_jax:
            raise ValueError("augmentations: KerasCV's layers run on TensorFlow alone")
        if self.on_tpu and (names := not_for_xla(layers)):
            raise ValueError(f"augmentations: XLA cannot compile {names} for a TPU")

    def dtype(self, dtype: str) -> str:
        """The dtype policy: `auto` is bfloat16 on devices that multiply in it."""
        has_bfloat16 = self.on_tpu or (self.gpus and min(self.gpus) >= _BFLOAT16)
        return ("mixed_bfloat16" if has_bfloat16 else "float32") if dtype == "auto" else dtype

    @property
    def most_executed(self) -> int:
        """The most steps of an execution where the config leaves that to the devices."""
        # A CPU gains nothing, and executions of one step are the quickest to stop.
        return _ON_TPU if self.on_tpu else _ON_GPU if self.gpus else 1

    def jit_compile(self, wanted: str, layers: tuple[dict, ...] = (), shapes: bool = False) -> str:
        """Whether XLA is to compile the training step: `on` or `off`.

        With TensorFlow, `auto` compiles on a single GPU alone: XLA is slower on CPUs, and a TPU's
        strategy compiles anyway. JAX always compiles, whatever is wanted. An `on` that cannot be,
        for `layers` of images or for `shapes` that vary from step to step, is refused.
        """
        if self.on_jax:
            return "on"
        if self.on_tpu or wanted == "off":
            return "off"
        unfit = not_for_xla(layers)
        if shapes:
            unfit = "steps whose shapes vary, as with packing"
        elif self.shared:
            unfit = "a step that several devices share"
        if wanted == "on" and unfit:
            raise ValueError(f"jit_compile='on': XLA cannot compile {unfit}")
        return "on" if (wanted == "on" or len(self.gpus) == 1) and not unfit else "off"


def batch_unit(replicas: int, accumulation: int, in_pairs: bool = False) -> int:
    """What a batch is a multiple of: replicas, micro-batches, and pairs of mixed images."""
    return replicas * math.lcm(accumulation, 2 if in_pairs else 1)


def require_shares(
    field: str, batch: int, replicas: int, accumulation: int, in_pairs: bool = False
) -> None:
    """Refuses a batch that replicas and micro-batches cannot share evenly."""
    unit = batch_unit(replicas, accumulation, in_pairs)
    if batch % unit:
        below = batch // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        raise ValueError(
            f"{field}={batch}: must be a multiple of {unit} ({replicas} replicas, accumulation "
            f"{accumulation}{', images mixed in pairs' if in_pairs else ''}), such as {nearest}"
        )
