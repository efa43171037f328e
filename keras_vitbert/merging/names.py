"""Merges by their names in a config, such as `mask`, `pcgrad` or `mask+pcgrad`."""

from keras_vitbert.configs.merges import blocks_of, parts_of
from keras_vitbert.merging import directions, entries, loss_weights
from keras_vitbert.merging.merge import Merge
from keras_vitbert.merging.weighting import Sum, Unit

_WEIGHTINGS = {
    "pcgrad": directions.PCGrad,
    "upgrad": directions.UPGrad,
    "dualproj": directions.DualProj,
    "gradvac": directions.GradVac,
    "nash": directions.Nash,
    "fairgrad": directions.FairGrad,
    "imtl_g": directions.IMTLG,
    "conflict_free": directions.ConFIG,
    "ntkmtl": directions.NTKMTL,
    "mgda": directions.MGDA,
    "sdmgrad": directions.SDMGrad,
    "cagrad": directions.CAGrad,
    "aligned": directions.Aligned,
    "uncertainty": loss_weights.Uncertainty,
    "dwa": loss_weights.DWA,
    "gradnorm": loss_weights.GradNorm,
    "famo": loss_weights.FAMO,
    "alternate": loss_weights.Alternate,
}


def get_merge(config, seed=0):
    """Builds the merge of a config's `merge` section.

    Args:
        config: mapping with `name` and its options, as in `keras_vitbert.configs.paper`; a missing
            option gets its default.
        seed: int in [0, 2**32), for random merges.

    Returns:
        `Merge`.

    Raises:
        ValueError: the name is unknown, or an option is out of range.
    """
    try:
        entry_name, name = parts_of(config["name"])
    except ValueError as error:
        raise ValueError(f"merge {config['name']!r} {error}") from None

    def options(of):
        # The name is in checkpoints; Keras' own would number the layers of a process.
        return {**(config.get(of) or {}), "name": "merge"}

    total = Sum(config.get("image_loss_ratio", 0.2))
    if name is None:
        weighting = Unit()
    elif name == "sum":
        weighting = total
    elif name == "random":
        weighting = loss_weights.RandomWeights(seed)
    else:
        weighting = _WEIGHTINGS[name](**options(name))
    if entry_name is None:
        rule = None
    elif entry_name == "graddrop":
        rule = entries.GradDrop(seed=seed, **options("graddrop"))
    else:
        rule = entries.GradientMask(
            "random" if entry_name == "random_mask" else config.get("mask_rank", "text"),
            config.get("mask_scope", "all"),
            config.get("mask_cumulative", True),
            config.get("mask_softness", 0.0),
            seed,
            config.get("mask_target", "gradient"),
            name="merge",  # by which checkpoints find the masks
        )
    return Merge(
        weighting,
        rule,
        config.get("per_block", False),
        blocks_of(config.get("blocks", "")),
        total,
        name="merge",
    )
