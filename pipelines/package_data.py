"""Finds data files in installed packages, without importing the packages."""

import importlib.util
import os

from pipelines.command_line import install


def find_package_file(package: str, relative_path: str) -> str:
    """The path of a file in the folder of an installed top-level package.

    The package is not imported: some take seconds, or import packages that are not needed here.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, *relative_path.split("/"))
        if os.path.isfile(path):
            return path
    raise ValueError(f"{package}/{relative_path} is not installed; run: {install('sample')}")
