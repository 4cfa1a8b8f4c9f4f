"""A network that fails: a reverse proxy between Hub and provider, and the faults it can have.

A fault is an async function of ``forward``, which sends the request on and returns the target's
:class:`Answer`. It returns the answer that the client gets, or ``None`` to close the connection.
"""

import asyncio
from dataclasses import dataclass, field

from tornado.httpclient import HTTPError
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler


@dataclass(frozen=True)
class Answer:
    code: int = 200
    body: bytes = b""
    headers: HTTPHeaders = field(default_factory=HTTPHeaders)


async def drop_before(forward):
    """The target never gets the request."""
    return None


async def drop_after(forward):
    """The target has done what it was asked, and the client does not hear of it."""
    await forward()
    return None


async def garbage_after(forward):
    await forward()
    return Answer(
        body=b'{"access_token": "gar', headers=HTTPHeaders({"Content-Type": "application/json"})
    )


class Gate:
    """Requests wait here until ``gate.open()``; ``await gate.reached.wait()``: until one does."""

    def __init__(self):
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()
        self.open = self._opened.set

    async def wait(self):
        self.reached.set()
        await self._opened.wait()


def hold_after(gate):
    async def hold_after(forward):
        answer = await forward()
        await gate.wait()
        return answer

    return hold_after


def delay_after(seconds):
    async def delay_after(forward):
        answer = await forward()
        await asyncio.sleep(seconds)
        return answer

    return delay_after


def status(code, body=b"", headers=()):
    """The target never gets the request."""

    async def status(forward):
        return Answer(code, body, HTTPHeaders(headers))

    return status


class FaultyProxy:
    """Forwards to ``target``, another origin on loopback, what has no fault ahead of it::

        async with FaultyProxy(provider.url) as proxy:
            proxy.on("/o/token/", drop_after)

    ``requests``: method, path, and the fault's name or the status (``None`` until there is one).
    """

    def __init__(self, target):
        self.requests = []
        self._faults = []
        self._target = target

    async def __aenter__(self):
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=1000)
        self._server = HTTPServer(Application([(r".*", _Handler, {"proxy": self})]))
        socket, port = bind_unused_port(address="127.0.0.1")
        self._server.add_socket(socket)
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error):
        self._server.stop()
        await self._server.close_all_connections()
        self._client.close()

    def on(self, path_prefix, fault, times=1):
        """The next requests for such a path meet this fault, after those that were set before."""
        self._faults.append([path_prefix, fault, times])

    def count(self, path_prefix):
        return sum(path.startswith(path_prefix) for _, path, _ in self.requests)

    async def handle(self, request):
        async def forward():
            return await self._forward(request)

        fault = self._next_fault(request.path)
        number = len(self.requests)
        self.requests.append((request.method, request.path, fault.__name__ if fault else None))
        if fault:
            return await fault(forward)
        answer = await forward()
        self.requests[number] = (request.method, request.path, answer.code)
        return answer

    def _next_fault(self, path):
        for entry in self._faults:
            prefix, fault, times = entry
            if times and path.startswith(prefix):
                entry[2] -= 1
                return fault

    async def _forward(self, request):
        answer = await self._client.fetch(
            self._target + request.uri,
            method=request.method,
            headers=_end_to_end(request.headers),
            body=request.body or None,
            allow_nonstandard_methods=True,
            decompress_response=False,
            follow_redirects=False,
            request_timeout=60,
            raise_error=False,
        )
        return Answer(answer.code, answer.body, _end_to_end(answer.headers))


class _Handler(RequestHandler):
    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

    def initialize(self, proxy):
        self.proxy = proxy

    async def prepare(self):
        try:
            answer = await self.proxy.handle(self.request)
        except (HTTPError, OSError):  # the target is down
            answer = None
        if answer is None:
            self.detach().close()
            return
        self.set_status(answer.code)
        for name in answer.headers:
            self.clear_header(name)
        for name, value in answer.headers.get_all():
            self.add_header(name, value)
        self.finish(answer.body)


def _end_to_end(headers):
    """Without what belongs to one connection; tornado writes that anew."""
    kept = HTTPHeaders()
    for name, value in headers.get_all():
        if name not in ("Connection", "Content-Length", "Host", "Transfer-Encoding"):
            kept.add(name, value)
    return kept
