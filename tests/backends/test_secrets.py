"""How a Secret is renewed with the rights that there are: an API server that answers as told."""

import logging
import math
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration
from pytest import param

from spawner_tokens.backends.kubernetes.apiserver import ApiFailure, ApiServer
from spawner_tokens.backends.kubernetes.manifest import make_secret
from spawner_tokens.backends.kubernetes.secrets import Secret, Secrets

CONTENT = make_secret("s", "hub", "1", "p", {"t": "bmV3"}, {}, {})
LABELS, ANNOTATIONS = {"spawner-tokens/hub": "hub"}, {"spawner-tokens/server": "1"}
HELD = {"namespace": "n", "name": "s", "uid": "1", "labels": LABELS, "annotations": ANNOTATIONS}
BODY = {"metadata": HELD, "data": {"t": "b2xk"}}
STEPS = {
    ("GET", "secrets"): "look",
    ("GET", "pods"): "ask for the pod",
    ("PATCH", "secrets"): "patch",
    ("PATCH", "pods"): "annotate",
    ("DELETE", "secrets"): "delete",
}


@asynccontextmanager
async def serving(**statuses):
    """The Secrets of a server that has one, and the steps that it sees: see :data:`STEPS`."""
    asked = []

    async def answer(request):
        resource = request.path.split("/")[5]
        created = "try" if request.query.get("dryRun") == "All" else "create"
        asked.append(STEPS.get((request.method, resource), created))
        usual = {"patch": 403, "try": 409, "create": 201}
        status = statuses.get(asked[-1], usual.get(asked[-1], 200))
        return web.json_response(BODY, status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
        api = ApiServer(client, timeout=5, patience=0)
        yield Secrets(api, "hub", {}, logging.getLogger()), asked
    await runner.cleanup()


FIRST = ["look", "ask for the pod", "patch"]
AGAIN = ["try", "delete", "create"]


@pytest.mark.parametrize(
    "statuses, steps, fails",
    [
        param({}, [*FIRST, *AGAIN], False, id="replaced"),
        param({"try": 403}, [*FIRST, "try"], True, id="another-may-not-be-made"),
        param({"try": 500}, [*FIRST, "try"], True, id="nobody-knows"),
        param({"try": 201}, [*FIRST, *AGAIN], False, id="gone-meanwhile"),
        param({"patch": 200}, [*FIRST, "annotate"], False, id="patched"),
        param({"look": 404}, [*FIRST[:2], "create"], False, id="gone"),
    ],
)
async def test_a_secret_is_deleted_by_who_may_make_another(statuses, steps, fails):
    async with serving(**statuses) as (made, asked):
        try:
            await made.renew("n", CONTENT, "p", [])
            assert not fails
        except ApiFailure:
            assert fails
    assert asked == steps


async def test_who_may_not_ask_for_the_pod_renews_without_an_owner():
    async with serving(**{"ask for the pod": 403}) as (made, asked):
        await made.renew("n", CONTENT, "p", [])
    assert asked == [*FIRST, *AGAIN]


@pytest.mark.parametrize(
    "keys, gone, looks",
    [
        param({"t"}, (), False, id="all-known"),
        param({"t", "u"}, ["u"], False, id="one-withdrawn"),
        param({"t", "u"}, (), True, id="one-to-be-kept"),
    ],
)
async def test_what_this_hub_made_last_needs_no_look(keys, gone, looks):
    known = Secret("n", "s", "1", frozenset(keys), [{"uid": "2"}])
    async with serving() as (made, asked):
        made.refused["secrets", "n"] = math.inf
        again = await made.renew("n", CONTENT, "p", gone, known)
    assert asked == (["look", "ask for the pod", *AGAIN] if looks else AGAIN)
    assert again.keys == {"t"}


async def test_a_refused_patch_is_for_one_namespace_and_a_while():
    async with serving() as (made, asked):
        await made.renew("n", CONTENT, "p", [])
        await made.renew("n", CONTENT, "p", [])
        await made.renew("other", CONTENT, "p", [])
        assert asked.count("patch") == 2
        made.refused = {where: until - 601 for where, until in made.refused.items()}
        await made.renew("n", CONTENT, "p", [])
    assert asked.count("patch") == 3
