"""What MkDocs does not do by itself, as its hooks: see mkdocs.yml.

The front page is the README. `config.md` is made from the dataclasses of `keras_vitbert.configs`,
`api/` from the docstrings by pdoc. Links to files of the repository lead to their API page, or to
`repo_url` where it is known.
"""

import ast
import dataclasses
import importlib
import inspect
import io
import pathlib
import pkgutil
import posixpath
import re
import sys
import tempfile
import tokenize
import warnings

import pdoc
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("keras_vitbert", "pipelines", "tpu")
# Pages that lie elsewhere in the repository, or have another name.
ELSEWHERE = {
    "docs/api.md": "api/index.md",
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "benchmarks/NOTES.md": "speed_notes.md",
    "keras_vitbert/weights/vitbert_small/README.md": "vitbert_small.md",
}
# A link, with its text if that is one name.
_LINK = re.compile(r"(\[`([\w.]+)`)?\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Adds the pages that are not in `docs/`."""
    for path, page in ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "config.md", content=config_reference()))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_api_pages(folder)
        for path in sorted(folder.rglob("*.*")):
            page = f"api/{path.relative_to(folder)}"
            if page != "api/index.html":  # a list of all modules; ours is `docs/api.md`
                files.append(File.generated(config, page, content=path.read_bytes()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links between files of the repository to where they are on the site.

    A link whose text is a name that its module documents leads to that name.
    """
    sources = {site: path for path, site in ELSEWHERE.items()}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")

    def moved(link):
        text, name, path, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        target = ELSEWHERE.get(path, path.removeprefix("docs/"))
        if path.partition("/")[0] in PACKAGES and (
            path.endswith(".py") or (ROOT / path / "__init__.py").exists()
        ):
            target = f"api/{path.removesuffix('.py').removesuffix('/__init__')}.html"
            made = files.get_file_from_path(target)
            anchor = f"#{name}" if f'id="{name}"' in made.content_string else anchor
        elif not files.get_file_from_path(target):
            return (
                f"{text}]({config.repo_url}/blob/main/{path})" if config.repo_url else f"{text}](#)"
            )
        return f"{text}]({posixpath.relpath(target, posixpath.dirname(here))}{anchor})"

    return _LINK.sub(moved, markdown)


def make_api_pages(folder):
    """Makes a page of every module; one that cannot be imported, or a dead name, is an error."""
    sys.path.insert(0, str(ROOT))
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("__init__.py")):
            _show_all(importlib.import_module(".".join(file.parent.relative_to(ROOT).parts)))
    warnings.filterwarnings("error", module=r"pdoc\.")
    pdoc.render.configure(docformat="google", template_directory=ROOT / "docs" / "pdoc")
    pdoc.pdoc(*PACKAGES, output_directory=folder)


def _show_all(package):
    """Lets pdoc see names in `__all__` that a package imports late, and the package's modules."""
    if hasattr(package, "__all__"):
        for name in package.__all__:
            setattr(package, name, getattr(package, name))
        modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
        package.__all__ = [*package.__all__, *modules]


def config_reference():
    """A table of every field of a config: Markdown."""
    from keras_vitbert.configs.fine_tuning import ImageTask, JointTasks, TextTask
    from keras_vitbert.configs.pretraining import Pretraining

    sections = {
        "Pre-training": Pretraining,
        "Fine-tuning on images": ImageTask,
        "Fine-tuning on texts": TextTask,
        "Fine-tuning on both": JointTasks,
    }

    lines = [
        "# Config fields",
        "",
        "Set one by `--config.FIELD=VALUE`, or in Python by `config.with_values({FIELD: VALUE})`.",
        "Defaults are those of the dataclass; `--config=NAME` and tasks change some of them.",
    ]
    for heading, section in sections.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| field | default | values | |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{field}` | {default} | {values} | {comment} |"
            for field, default, values, comment in _rows(section, "")
        ]
    return "\n".join(lines) + "\n"


def _rows(section, prefix):
    """The fields of a section and of those in it: name, default, values, comment."""
    comments = _comments(section)
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(field.default):
            yield from _rows(type(field.default), f"{prefix}{field.name}.")
            continue
        missing = field.default is dataclasses.MISSING
        default = "required" if missing else f"`{field.default!r}`"
        values = field.metadata.get("interval") or ", ".join(field.metadata.get("known", ()))
        row = (
            default,
            values or str(getattr(field.type, "__name__", field.type)),
            comments.get(field.name, ""),
        )
        yield f"{prefix}{field.name}", *(text.replace("|", r"\|") for text in row)


def _comments(section):
    """The comment above a field and the one behind it, by the field's name."""
    found = {}
    for base in reversed(section.__mro__[:-1]):
        source = inspect.getsource(base)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        at = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
        for node in ast.parse(source).body[0].body:
            if not isinstance(node, ast.AnnAssign):
                continue
            lines = [line for line in range(node.lineno, node.end_lineno + 1) if line in at]
            above = node.lineno - 1
            while above in at and not at[above].line.partition("#")[0].strip():
                lines.insert(0, above)
                above -= 1
            text = " ".join(at[line].string.lstrip("# ") for line in lines)
            if text:
                found[node.target.id] = text
    return found
