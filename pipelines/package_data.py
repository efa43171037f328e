"""Finds data files in installed packages, without importing the packages."""

import importlib.util
import os

from pipelines.command_line import install


def find_package_file(package, relative_path):
    """Finds a file in the folder of an installed package.

    The package is not imported: some take seconds, or import packages that are not needed here.

    Args:
        package: str, the name of a top-level package.
        relative_path: str, the file within the package's folder, with `/`.

    Returns:
        str, a path.

    Raises:
        ValueError: the package is not installed, or lacks that file.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, *relative_path.split("/"))
        if os.path.isfile(path):
            return path
    raise ValueError(f"{package}/{relative_path} is not installed; run: {install('sample')}")
