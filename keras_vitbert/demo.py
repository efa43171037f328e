"""Shows what a trained model says about an image or a sentence, on a page in the browser.

    python -m keras_vitbert.demo --checkpoint=DIR [--compare=DIR] [--port=7860]

Drop an image or type a sentence, with or without [MASK]: the page shows the five likeliest answers,
and what each block attends to or how strongly it responds. DIR is the folder of a run of pretrain
or finetune, a preset, or a BERT or ViT of another project; --compare shows a second one beside it.
The page is served to this machine only and works without a network; Ctrl-C ends it. It needs
Gradio: pip install -e ".[demo]".
Exit status: 0 ended, 2 bad flag, model or port.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_vitbert.trained.places import require_place
from pipelines.command_line import Stopped, install, load_tensorflow, quiet_loading, run
from pipelines.flags import define_flags, parse_flags
from pipelines.status import doing

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from keras_vitbert.extras.demo_page.answers import ShownModel

ADDRESS = "127.0.0.1"
OWN_NAMES = ("localhost", ADDRESS)


def main(argv: list[str]) -> None:
    """Runs the command."""
    values = define_flags(
        ("checkpoint", "", "a run of pretrain or finetune, a preset, or a BERT or ViT, see above"),
        ("compare", "", "another one, to show beside it"),
        ("port", 7860, "where the page is served, on 127.0.0.1", 1, 65535),
    )
    parse_flags(values, argv, __doc__ or "", required=("checkpoint",))
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(f"gradio is not installed; run: {install('demo')}")
    with socket.socket() as client:  # before anything is loaded
        if client.connect_ex((ADDRESS, values.port)) == 0:
            raise ValueError(f"port {values.port} is taken")
    paths = [path for path in (values.checkpoint, values.compare) if path]
    for path in paths:
        require_place(path)

    load_tensorflow()
    with quiet_loading():
        from keras_vitbert.extras.demo_page.answers import ShownModel
        from keras_vitbert.trained.loading import load

    models = []
    for path in paths:
        with doing(f"opening {path}"):
            # With the path as it was given, not that of a model in this package.
            models.append(ShownModel(dataclasses.replace(load(path), path=path)))
        if not (models[-1].takes_images or models[-1].takes_texts):
            raise ValueError(
                f"{path}: takes no images, and has no vocabulary for texts; give a run, or a "
                "preset of a task"
            )
    with serving(models, values.port) as address:
        print(f"{address} shows {' and '.join(paths)}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(Stopped):
            signal.pause()


@contextlib.contextmanager
def serving(models: list[ShownModel], port: int) -> Iterator[str]:
    """Serves the page of `ShownModel`s to this machine while the block runs; yields its address.

    Nothing is requested from another host: no analytics, no tunnel, no fonts, and no proxy between
    the page and this machine. What is dropped on the page is deleted at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Gradio reads these when it is imported, and when its components are made.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = folder
        for name in ("NO_PROXY", "no_proxy"):  # it asks its own server whether it is up
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), *OWN_NAMES]))
        from starlette.middleware import Middleware

        from keras_vitbert.extras.demo_page.page import THEME, build

        page = build(models)
        page.queue(default_concurrency_limit=1)
        page.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            run_history=False,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            max_file_size="64mb",
            theme=THEME,
            app_kwargs={"middleware": [Middleware(own_page_only)]},
        )
        try:
            yield f"http://{ADDRESS}:{port}/"
        finally:
            page.close(verbose=False)


def own_page_only(app: ASGIApp) -> ASGIApp:
    """ASGI middleware that refuses requests of other pages, which a browser sends here, too.

    A `Host` of another name comes from a page whose name was made to point here (DNS rebinding).
    An `Origin` that differs from the `Host` comes from another page: Gradio's `strict_cors` would
    answer it, and only keep the answer from it.
    """
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        answer = app
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            origin = headers.get("origin", f"http://{host}").lower()
            if host.partition(":")[0] not in OWN_NAMES or origin != f"http://{host}":
                answer = PlainTextResponse("this request is not of the page itself", 403)
        await answer(scope, receive, send)

    return guarded


if __name__ == "__main__":
    sys.exit(run(main))
