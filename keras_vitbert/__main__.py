"""Lists the commands of the project: `python -m keras_vitbert`."""

import ast
import os
import sys

import keras_vitbert
import pipelines
import tpu
from pipelines.command_line import meant, run
from pipelines.flags import asks_for_help

_PACKAGES = (keras_vitbert, pipelines, tpu)


def list_commands() -> dict[str, str]:
    """Commands, such as `keras_vitbert.pretrain`, and what they do, from the text of the modules.

    Importing some would take seconds.
    """
    commands = {}
    for package in _PACKAGES:
        [folder] = package.__path__
        for file in sorted(os.listdir(folder)):
            name, suffix = os.path.splitext(file)
            if suffix != ".py" or name.startswith("_"):
                continue
            with open(os.path.join(folder, file), encoding="utf-8") as source:
                text = source.read()
            if '\nif __name__ == "__main__":' in text:
                paragraph = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
                commands[f"{package.__name__}.{name}"] = " ".join(paragraph.split())
    return commands


def main(argv: list[str]) -> None:
    """Prints the commands; there are no flags but `--help`."""
    commands = list_commands()
    if argv and not asks_for_help(argv):
        name = argv[0].strip("-")
        hint = meant(name, [key.rpartition(".")[2] for key in commands])
        raise ValueError(f"{argv[0]!r}: run python -m keras_vitbert.COMMAND{hint}")
    width = max(map(len, commands))
    print(f"keras_vitbert {keras_vitbert.__version__}: ViT-BERT in Keras 3\n")
    for name, line in commands.items():
        print(f"python -m {name:{width}}  {line}")
    print("\nEach answers --help.")


if __name__ == "__main__":
    sys.exit(run(main))
