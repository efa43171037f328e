"""Folders of prepared data: built once, then reused, and never visible half-built."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid

_TEMPORARY = ".tmp-"  # in the name of a folder that is being built
_STALE_SECONDS = 3600  # no build writes its files that slowly: the folder is abandoned


def find_or_build(name, settings, build, cache_dir=None):
    """Finds the folder of data made with `settings`, or builds it.

    Any number of processes may call this at once. The folder appears whole or not at all.

    Args:
        name: str, the first part of the folder's name.
        settings: JSON-serializable dict; its hash is the rest of the folder's name.
        build: callable that takes the path of an empty folder and fills it.
        cache_dir: str, the folder's parent, local. See `default_cache_dir`.

    Returns:
        str, the path of the folder.

    Raises:
        OSError: the folder cannot be made.
        ValueError: `cache_dir` is not local.
    """
    cache_dir = os.path.expanduser(cache_dir or default_cache_dir())
    if "://" in cache_dir:
        raise ValueError(f"{cache_dir}: prepared data need a local folder")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = os.path.join(cache_dir, f"{name}-{digest[:12]}")
    if not os.path.isdir(folder):
        os.makedirs(cache_dir, exist_ok=True)
        _remove_abandoned(cache_dir)
        with _appearing(folder) as temporary:
            build(temporary)
    return folder


def default_cache_dir():
    """`$KERAS_VITBERT_CACHE`, else `keras_vitbert` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    return os.environ.get("KERAS_VITBERT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "keras_vitbert"
    )


@contextlib.contextmanager
def _appearing(folder):
    """Yields a temporary folder, which is renamed to `folder` when the block has ended."""
    temporary = f"{folder}{_TEMPORARY}{uuid.uuid4().hex[:12]}"
    os.mkdir(temporary)
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not os.path.isdir(folder):  # otherwise another process was faster: use its folder
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(cache_dir):
    """Removes what killed runs left behind: temporary folders unchanged for an hour."""
    for entry in os.scandir(cache_dir):
        if _TEMPORARY in entry.name and entry.is_dir():
            with contextlib.suppress(FileNotFoundError):  # its owner has just ended
                if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)
