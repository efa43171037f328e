"""A stub."""


def table(lower_case: bool) -> dict:
    """A stub."""
    return {"lower_case": lower_case}
