"""Serves the page to this machine, and to no other."""

import contextlib
import os
import tempfile

from keras_vitbert.extras.demo_page.answers import ShownModel

ADDRESS = "127.0.0.1"
OWN_NAMES = ("localhost", ADDRESS)


@contextlib.contextmanager
def serving(models: list[ShownModel], port: int):
    """Serves the page while the block runs; it yields the page's address.

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


def own_page_only(app):
    """ASGI middleware that refuses requests of other pages, which a browser sends here, too.

    A `Host` of another name comes from a page whose name was made to point here (DNS rebinding).
    An `Origin` that differs from the `Host` comes from another page: Gradio's `strict_cors` would
    answer it, and only keep the answer from it.
    """
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse

    async def guarded(scope, receive, send):
        headers = {} if scope["type"] == "lifespan" else Headers(scope=scope)
        host = headers.get("host", "").lower()
        is_own = host.partition(":")[0] in OWN_NAMES
        is_own &= headers.get("origin", f"http://{host}").lower() == f"http://{host}"
        if is_own or scope["type"] == "lifespan":
            await app(scope, receive, send)
        else:
            await PlainTextResponse("this request is not of the page itself", 403)(
                scope, receive, send
            )

    return guarded
