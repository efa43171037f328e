"""Shows what a trained model says about an image or a sentence, on a page in the browser.

    python -m keras_vitbert.demo --checkpoint=DIR [--compare=DIR] [--port=7860]

Drop an image or type a sentence, with or without [MASK]: the page shows the five likeliest answers,
and what each block attends to or how strongly it responds. DIR is the folder of a run of pretrain
or finetune, a preset, or a BERT or ViT of another project; --compare shows a second one beside it.
The page is served to this machine only and works without a network; Ctrl-C ends it. It needs
Gradio: pip install -e ".[demo]".
Exit status: 0 ended, 2 bad flag, model or port.
"""

import contextlib
import dataclasses
import importlib.util
import signal
import socket
import sys

from keras_vitbert.trained.places import require_place
from pipelines.command_line import Stopped, install, load_tensorflow, quiet_loading, run
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing


def main(argv):
    """Runs the command.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("checkpoint", "", "a run of pretrain or finetune, a preset, or a BERT or ViT, see above"),
        ("compare", "", "another one, to show beside it"),
        ("port", 7860, "where the page is served, on 127.0.0.1", 1, 65535),
    )
    parse_flags(values, argv, __doc__, required=("checkpoint",))
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(f"gradio is not installed; run: {install('demo')}")
    with socket.socket() as client:  # before anything is loaded
        if client.connect_ex(("127.0.0.1", values.port)) == 0:
            raise ValueError(f"port {values.port} is taken")
    require_place(values.checkpoint)
    require_place(values.compare)

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.extras.demo_page.answers import ShownModel
        from keras_vitbert.extras.demo_page.server import serving
        from keras_vitbert.trained.loading import load

    paths = [path for path in (values.checkpoint, values.compare) if path]
    models = []
    for path in paths:
        with doing(f"opening {path}"):
            # With the path as it was given, not that of a model in this package.
            models.append(ShownModel(dataclasses.replace(load(path), path=path)))
    for model in models:
        if not (model.takes_images or model.takes_texts):
            raise ValueError(
                f"{model.trained.path}: takes no images, and has no vocabulary for texts; give a "
                "run, or a preset of a task"
            )
    with serving(models, values.port) as address:
        print(f"{address} shows {' and '.join(paths)}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(Stopped):
            signal.pause()


if __name__ == "__main__":
    sys.exit(run(main))
