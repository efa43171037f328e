"""The config of pre-training, and the variants of the paper's Table 1."""

import dataclasses
from typing import ClassVar, Self

from keras_vitbert.configs.data import Data
from keras_vitbert.configs.devices import Devices, require_shares
from keras_vitbert.configs.merges import Merge, blocks_of, without_masks
from keras_vitbert.configs.model import PAPER_SIZES, Model
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import Section, choice, ranged


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the paper's Table 1: ViT-BERT, or what is left of it without some ingredients."""

    name: str
    images: bool = True  # whether it is trained on images
    text: bool = True
    distillation: bool = False  # whether teachers are used
    masks: bool = False  # whether gradients are masked


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("bert", images=False),
        Variant("vit", text=False),
        Variant("joint"),
        Variant("vitbert", distillation=True, masks=True),
        Variant("vitbert_no_kd", masks=True),
        Variant("vitbert_no_gm", distillation=True),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(Section):
    """Eq. 7."""

    ratio: float = ranged(1.0, "[0, 1]")  # a: 0, labels alone; 1, the teacher alone
    # T, whose term has a factor T^2 (Hinton et al. 2015; not in the paper); 0: the teacher's argmax
    temperature: float = ranged(1.0, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teachers(Section):
    """Steps of teachers that are trained on demand; 0: as many as the student."""

    image_steps: int = ranged(0, "[0, inf)")
    text_steps: int = ranged(0, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection(Section):
    """What TensorBoard shows; not in the paper."""

    # Steps between two pictures of activations; 0: none.
    activation_interval: int = ranged(10_000, "[0, inf)")
    # Images, and as many texts, to average over.
    activation_examples: int = ranged(64, "[1, inf)")
    mask_pictures: bool = True  # at every update of the masks
    # Steps between two probes of both gradients; 0: none.
    gradient_interval: int = ranged(1_000, "[0, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probes(Section):
    """Probes of frozen features, on validation examples; not in the paper."""

    interval: int = ranged(0, "[0, inf)")  # steps between two; 0: none
    # Images and texts each: half train the probe, half test it.
    examples: int = ranged(1_000, "[4, inf)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretraining(Experiment):
    """A pre-training; the defaults are the paper's, with the base model."""

    variant: str = choice("vitbert", VARIANTS)  # of `VARIANTS`
    model: Model = Model()
    data: Data = Data()
    image_batch_size: int = ranged(4096, "[1, inf)")  # images a step, over all replicas
    text_batch_size: int = ranged(512, "[1, inf)")  # texts a step
    steps: int = ranged(1_000_000, "[1, inf)")
    steps_per_epoch: int = ranged(1_000, "[1, inf)")
    validation_interval: int = ranged(10_000, "[1, inf)")  # steps
    checkpoint_interval: int = ranged(5_000, "[1, inf)")
    checkpoints_to_keep: int = ranged(3, "[1, inf)")
    optimizer: PretrainingOptimizer = PretrainingOptimizer()
    distillation: Distillation = Distillation()
    merge: Merge = Merge()
    teachers: Teachers = Teachers()
    inspection: Inspection = Inspection()
    probes: Probes = Probes()

    ENDS: ClassVar[tuple[str, ...]] = (
        *Experiment.ENDS,
        *("merge.mask_update_interval", "teachers.image_steps", "teachers.text_steps"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_multiple("validation_interval", "steps_per_epoch")
        warmup = self.optimizer.warmup_steps
        shorter = warmup < self.steps
        self.require(shorter, "optimizer.warmup_steps", f"below steps, which is {self.steps}")
        for field in ("teachers.image_steps", "teachers.text_steps"):
            fits = not self.value(field) or self.value(field) > warmup
            self.require(fits, field, f"0 or above optimizer.warmup_steps, {warmup}")
        if self.data.images.in_pairs:
            self.require(
                self.image_batch_size % 2 == 0, "image_batch_size", "even to mix images in pairs"
            )
        if self.data.packing:
            self.require(not self.probes.interval, "probes.interval", "0 with data.packing")
        if blocks := blocks_of(self.merge.blocks):
            last = self.model.num_layers
            self.require(blocks[1] <= last, "merge.blocks", f"within model.num_layers, {last}")
        if self.masks:
            # Algorithm 1 must reach its sparsity before the run ends.
            updates = self.merge.mask_updates
            last = updates * self.merge.mask_update_interval
            most = (self.steps - 1) // max(updates, 1)
            wanted = f"at most {most}: {updates} updates must fit into {self.steps} steps"
            self.require(last < self.steps, "merge.mask_update_interval", wanted)

    @property
    def variant_spec(self) -> Variant:
        """What of ViT-BERT the variant has."""
        return VARIANTS[self.variant]

    @property
    def masks(self) -> bool:
        """Whether gradients are masked."""
        return self.variant_spec.masks and self.merge.has_masks

    @property
    def augmentations(self) -> tuple[dict, ...]:
        return self.data.images.augmentations if self.variant_spec.images else ()

    def as_variant(self, name: str) -> Self:
        """The config of a variant, without the settings that it does not use."""
        values: dict = {"variant": name}
        if not VARIANTS[name].distillation:
            values["distillation.ratio"] = 0.0
        if not VARIANTS[name].masks:
            merge = without_masks(self.merge.name)
            values["merge.name"] = merge
            if merge == "sum":
                values["merge.blocks"] = ""  # the sum is the same in all blocks
        return self.with_values(values)

    def with_sizes(self, of_data: dict[str, int] | None = None) -> Self:
        """The config with sizes of `model` that are 0 as in the data, else as in the paper."""
        sizes = PAPER_SIZES | (of_data or {})
        return self.with_values(
            {f"model.{name}": self.value(f"model.{name}") or size for name, size in sizes.items()}
        )

    def for_devices(self, devices: Devices) -> Self:
        """See `Experiment.for_devices`; also that batches divide over the replicas."""
        packing = self.data.packing
        if packing and (devices.on_tpu or devices.on_jax):
            raise ValueError("data.packing=True: rows vary, and a TPU or JAX needs one shape")
        if self.variant_spec.images:
            shared = devices.replicas, self.accumulation, self.data.images.in_pairs
            require_shares("image_batch_size", self.image_batch_size, *shared)
        if self.variant_spec.text:
            require_shares(
                "text_batch_size", self.text_batch_size, devices.replicas, self.accumulation
            )
        jit_compile = devices.jit_compile(self.jit_compile, self.augmentations, shapes=packing)
        config = dataclasses.replace(self, jit_compile=jit_compile)
        return (
            super(Pretraining, config).for_devices(devices).with_executions(devices.most_executed)
        )

    def unread(self) -> dict[str, str]:
        """Fields that have no effect beside others, each with the reason."""
        merge = self.merge.unread(self.variant_spec.masks)
        if self.merge.has_masks and not self.variant_spec.masks:
            merge["name"] = f"variant={self.variant}, which has no masks"
        of_merge = {f"merge.{field}": reason for field, reason in merge.items()}
        return of_merge | super().unread()
