"""Makes the API pages from the docstrings, with pdoc: one page per module.

    python docs/make_api_pages.py [FOLDER]

FOLDER is build/api by default. It ends with an error if a page would be incomplete: a module cannot
be imported, or a public name leads nowhere.
"""

import importlib
import pathlib
import pkgutil
import sys
import warnings

import pdoc

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("keras_vitbert", "pipelines", "tpu")


def main(folder):
    """Writes the pages to a folder."""
    sys.path.insert(0, str(ROOT))
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("__init__.py")):
            _show_all(importlib.import_module(".".join(file.parent.relative_to(ROOT).parts)))
    warnings.filterwarnings("error", module=r"pdoc\.")
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(*PACKAGES, output_directory=pathlib.Path(folder))


def _show_all(package):
    """Lets pdoc see names in `__all__` that a package imports late, and the package's modules."""
    if hasattr(package, "__all__"):
        for name in package.__all__:
            setattr(package, name, getattr(package, name))
        modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
        package.__all__ = [*package.__all__, *modules]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "api")
