"""The API server's retry rules, against a real HTTP server that answers what a test says."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration
from pytest import param

from spawner_tokens.backends.kubernetes.apiserver import Answer, ApiFailure, ApiServer

NO_ANSWER, TOO_SLOW = None, 0
SECRET = {"data": {"t": "dGhlLXRva2Vu"}}


@asynccontextmanager
async def serving(statuses, patience):
    """An :class:`ApiServer` that gets these statuses, the last one for ever; and what it asked."""
    asked = []

    async def answer(request):
        status = statuses[min(len(asked), len(statuses) - 1)]
        asked.append(request)
        if status is NO_ANSWER:
            request.transport.close()
        if status == TOO_SLOW:
            await asyncio.sleep(1.2)
        return web.json_response(SECRET, status=status or 200)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
        timeout = 1 if TOO_SLOW in statuses else 30
        yield ApiServer(client, timeout=timeout, patience=patience), asked
    await runner.cleanup()


@pytest.mark.parametrize(
    "statuses, expected, status",
    [
        param([201], (), 201, id="success"),
        param([404], (404,), 404, id="expected"),
        param([429, 200], (), 200, id="too-many-requests"),
        param([408, 200], (), 200, id="request-timeout"),
        param([500, 503, 200], (), 200, id="server-errors"),
        param([NO_ANSWER, 200], (), 200, id="no-answer"),
        param([TOO_SLOW, 200], (), 200, id="slow-answer"),
        param([NO_ANSWER, 403, 401, 200], (), 200, id="refused-right-after-an-outage"),
        param([NO_ANSWER, 403, 200], (403,), 200, id="expected-refusal-after-an-outage"),
        param([403], (403,), 403, id="expected-refusal"),
    ],
)
async def test_what_may_pass_is_asked_again(statuses, expected, status):
    async with serving(statuses, patience=20) as (server, asked):
        # aiohttp itself repeats a GET that got no answer.
        answer = await server.ask("POST", "/secrets", SECRET, expected=expected)
    assert (answer.status, len(asked)) == (status, len(statuses))


@pytest.mark.parametrize(
    "statuses, patience, words",
    [
        param([403], 20, "the API server answered 403", id="refused"),
        param([404], 20, "the API server answered 404", id="not-there"),
        param([422], 20, "the API server answered 422", id="invalid"),
        param([503], 0, "the API server answered 503", id="out-of-patience"),
        param([NO_ANSWER], 0, "the API server gave no answer", id="no-answer"),
    ],
)
async def test_what_cannot_pass_is_a_failure_without_a_body(statuses, patience, words):
    async with serving(statuses, patience) as (server, asked):
        with pytest.raises(ApiFailure, match=f"^POST /secrets: {words}$"):
            await server.ask("POST", "/secrets", SECRET)
    assert len(asked) == 1


async def test_a_request_says_what_it_sends_and_wants():
    async with serving([200], patience=0) as (server, asked):
        await server.ask("PATCH", "/secrets/x", {}, query={"a": "b"}, kind="PartialObjectMetadata")
    [request] = asked
    assert request.path_qs == "/api/v1/secrets/x?a=b"
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert request.headers["Accept"].endswith(";as=PartialObjectMetadata;g=meta.k8s.io;v=v1")


def test_an_answers_text_has_no_body():
    assert repr(Answer(200, SECRET)) == "Answer(200)"
