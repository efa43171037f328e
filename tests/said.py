"""What commands say on stderr."""


def without_status(err):
    """The lines without those of what begins, see `pipelines.status`: list of str.

    Args:
        err: str.
    """
    return [line for line in err.splitlines() if not line.endswith(" ...")]
