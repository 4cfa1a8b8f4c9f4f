"""A proxy between a Hub and the API server, with faults: see tests/support/faults.py."""

import aiohttp
from aiohttp import web

from .faults import Answer


class ApiProxy:
    """Between a Hub and the API server: forwards what has no fault ahead of it; watches, too::

        async with ApiProxy(cluster) as proxy:
            proxy.on("POST", "/secrets", status(500))

    ``requests`` has the verb and the path of each, and the fault's name or else the status.
    """

    def __init__(self, cluster):
        self._cluster = cluster
        self._faults = []
        self.requests = []

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=4 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error):
        await self._runner.cleanup()
        await self._session.close()

    def on(self, verb, part, fault, times=1):
        """The next requests of this verb with this part in their path meet the fault."""
        self._faults.append([verb, part, fault, times])

    def clear(self):
        self._faults.clear()

    def _next_fault(self, request):
        for entry in self._faults:
            verb, part, fault, times = entry
            if (
                times
                and verb == request.method
                and part in request.path
                and "watch" not in request.query
            ):
                entry[3] -= 1
                return fault

    async def _handle(self, request):
        fault, number = self._next_fault(request), len(self.requests)
        self.requests.append((request.method, request.path, fault.__name__ if fault else None))
        headers = {
            name: text
            for name, text in request.headers.items()
            if name not in ("Host", "Content-Length")
        }
        url = f"{self._cluster.url}{request.path_qs}"
        options = {"data": await request.read(), "headers": headers, "ssl": self._cluster.tls}

        async def forward():
            async with self._session.request(request.method, url, **options) as answer:
                return Answer(answer.status, await answer.read())

        try:
            if fault:
                answer = await fault(forward)
                if answer is not None:
                    return web.Response(
                        status=answer.code, body=answer.body, content_type="application/json"
                    )
            else:
                async with self._session.request(request.method, url, **options) as answer:
                    self.requests[number] = (request.method, request.path, answer.status)
                    return await self._stream(request, answer)
        except (aiohttp.ClientError, ConnectionError):  # one of the two has gone
            pass
        if request.transport:
            request.transport.close()
        return web.Response()

    async def _stream(self, request, answer):
        headers = {"Content-Type": answer.headers["Content-Type"]}
        out = web.StreamResponse(status=answer.status, headers=headers)
        await out.prepare(request)
        async for chunk in answer.content.iter_any():
            await out.write(chunk)
        return out
