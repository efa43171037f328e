"""Other pages in the reader's browser reach nothing; needs no browser and no server."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="needs gradio")

from keras_vitbert.demo import own_page_only


def answer(headers):
    """The status of a request with these headers, and whether the page was asked."""
    sent, asked = [], []

    async def page(scope, receive, send):
        asked.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "path": "/upload", "headers": headers}
    asyncio.run(own_page_only(page)(scope, None, send))
    return sent[0]["status"], bool(asked)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "LOCALHOST"])
def test_the_page_itself_is_answered(host):
    for origin in ([], [("origin", f"http://{host}")]):
        assert answer([("host", host), *origin]) == (200, True)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        # Its name was made to point to this machine.
        [("host", "evil.example:7860"), ("origin", "http://evil.example:7860")],
        [("host", "localhost.evil.example:7860")],
        [("host", "127.0.0.1:7860"), ("origin", "http://127.0.0.1:8888")],
    ],
)
def test_other_pages_are_refused(headers):
    assert answer(headers) == (403, False)
