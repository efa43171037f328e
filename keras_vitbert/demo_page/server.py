"""Serves the page to this machine, and to no other."""

import contextlib
import os
import socket
import tempfile

ADDRESS = "127.0.0.1"
_OWN_NAMES = ("localhost", ADDRESS)


@contextlib.contextmanager
def serving(models, port):
    """Serves the page while the block runs; it yields the page's address.

    Nothing is requested from another host: no analytics, no tunnel, and no proxy between the page
    and this machine. Requests of other pages are refused, see `OwnPageOnly`. What is dropped on the
    page is deleted at the end.

    Args:
        models: list of `keras_vitbert.demo_page.answers.ShownModel`.
        port: int.

    Raises:
        ValueError: another program has the port, or it is reserved.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Gradio reads these when it is imported, and when its components are made.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = folder
        _go_round_proxies()
        from starlette.middleware import Middleware

        from keras_vitbert.demo_page import drawing, layout
        from keras_vitbert.demo_page.guard import OwnPageOnly

        page = layout.build(models)
        page.queue(default_concurrency_limit=1)
        try:
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
                theme=layout.THEME,
                css=drawing.CSS,
                app_kwargs={"middleware": [Middleware(OwnPageOnly, names=_OWN_NAMES)]},
            )
        except OSError as error:
            raise _no_port(port) from error
        try:
            yield f"http://{ADDRESS}:{port}/"
        finally:
            page.close(verbose=False)


def check_port(port):
    """Refuses a port that another program has, before anything is loaded.

    Args:
        port: int.

    Raises:
        ValueError: something answers there.
    """
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex((ADDRESS, port)) == 0:
            raise _no_port(port)


def _no_port(port):
    return ValueError(f"port {port} is taken or reserved on this machine")


def _go_round_proxies():
    """Excludes this machine from proxies: Gradio asks its own server whether it is up."""
    for name in ("NO_PROXY", "no_proxy"):
        given = [host for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in given:
            os.environ[name] = ",".join([*given, *_OWN_NAMES])
