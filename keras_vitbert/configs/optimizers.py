"""The names of optimisers and their settings, for pre-training and fine-tuning."""

# What an optimiser takes from the `optimizer` section besides rate and weight decay, with the
# values used if a command line names the optimiser but not these.
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
_OF_ADAM = ("adamw", "lamb")


def with_own_values(config, given):
    """Sets an optimiser's own values, if the command line names it but does not give them.

    Args:
        config: `ConfigDict` with a section `optimizer`, which is changed.
        given: `keras_vitbert.configs.overrides.Given`.
    """
    section = config.optimizer
    if "optimizer.name" in given.keys:
        for key, value in OPTIONS.get(section.name, {}).items():
            if f"optimizer.{key}" not in given.keys:
                section[key] = value


def check(checks, defaults):
    """Notes what is wrong with the optimiser.

    Args:
        checks: `keras_vitbert.configs.checks.Requirements`.
        defaults: flat dict, the config without changes.
    """
    flat = checks.flat
    name = flat["optimizer.name"]
    checks.one_of("optimizer.name", OPTIONS)
    checks.must_be("above 0", "optimizer.clip_norm", "optimizer.epsilon")
    checks.at_least(0, "optimizer.learning_rate", "optimizer.weight_decay", "optimizer.power")
    checks.must_be(
        "in [0, 1)", *(f"optimizer.{k}" for k in ("momentum", "ema", "beta_1", "beta_2"))
    )
    if name == "lion":
        checks.require(flat["optimizer.beta_1"] > 0, "optimizer.beta_1", "must be above 0 for lion")
    if name in _OF_ADAM:
        beta_2 = flat["optimizer.beta_2"]
        checks.require_beside(
            lambda: flat["optimizer.beta_1"] ** 2 < beta_2,
            "optimizer.beta_1",
            ("optimizer.beta_2",),
            f"must be below the square root of optimizer.beta_2, which is {beta_2}: Adam need not "
            "converge otherwise",
        )
    for key in sorted({key for options in OPTIONS.values() for key in options}):
        if name in OPTIONS and key not in OPTIONS[name]:
            no_effect_beside(checks, defaults, f"optimizer.{key}", "optimizer.name")


def no_effect_beside(checks, defaults, key, other):
    """Refuses a changed setting that has no effect beside another.

    Args:
        checks, defaults: see `check`.
        key: str, the setting.
        other: str, the key of the other.
    """
    checks.require_beside(
        lambda: checks.flat[key] == defaults[key],
        key,
        (other,),
        f"has no effect with {other}={checks.flat[other]}",
    )
