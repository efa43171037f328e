"""Keeps other web pages away from the page: middleware of its server."""

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from pipelines.command_line import one_line, say


class OwnPageOnly:
    """Refuses requests that come from other pages, and reports failures in one line each.

    A browser sends what any page asks it to, also to this machine. A `Host` of another name comes
    from a page whose name was made to point here (DNS rebinding). An `Origin` that differs from
    the `Host` comes from another page.

    Args:
        app: the ASGI application.
        names: collection of str, the names of this machine, without a port.
    """

    def __init__(self, app, names):
        self._app, self._names = app, names

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if host.partition(":")[0] not in self._names:
            why = f"the page is not served as {host or 'a host without a name'}"
        elif origin and origin.partition("://")[2] != host:
            why = f"{origin} is another page"
        else:
            return await self._answered(scope, receive, send)
        await PlainTextResponse(why, 403)(scope, receive, send)

    async def _answered(self, scope, receive, send):
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # of a request that the page itself does not make
            say(f"{scope['path']}: {type(error).__name__}: {one_line(error)[:200]}")
