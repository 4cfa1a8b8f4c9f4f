"""Hostile providers, hooks and databases: what a review once broke in the renewal."""

import asyncio
import gc
import json
import logging
import math
import secrets
import time
import weakref
from itertools import pairwise

import pytest
from oauthenticator.generic import GenericOAuthenticator
from tornado.httputil import HTTPHeaders

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.faults import Answer, Gate
from ..support.oauth import make_auth_state
from ..support.scripted import Provider, failing, login, shown, tokens
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner


def error(code, name="", **headers):
    return Answer(
        code, json.dumps({"error": name}).encode() if name else b"{}", HTTPHeaders(headers)
    )


def bursts(provider):
    """User → the time between two requests for tokens, where that was less than a second."""
    found = {}
    for user, times in provider.grants.items():
        nearest = min((later - earlier for earlier, later in pairwise(times)), default=1)
        if nearest < 0.95:
            found[user] = round(nearest, 2)
    return found


async def start(start_hub, provider, settings=None, base=GenericOAuthenticator, **traits):
    """A Hub, and what its authenticator does when the Hub asks about a user."""
    hub = await start_hub(SIMPLE, provider.settings(base, **traits) | (settings or {}))
    return hub, hub.app.authenticator


async def visitor(hub, name="alice", auth_state=None):
    """A user whom the Hub knows: a Spawner has been made, so refreshes are shared."""
    user = await hub.user(name, auth_state or login(name))
    hub.spawner(user)
    return user


async def servers(hub, names, **state):
    """Users with a running server each, by name."""
    users = {name: await hub.user(name, login(name, **state)) for name in names}
    await asyncio.gather(*(hub.spawn(user) for user in users.values()))
    return users


def status(user):
    return json.loads(shown(user, file="t.json"))["status"]


# -- what the provider answers ---------------------------------------------------------------------


GOOD = {"access_token": "a1", "token_type": "Bearer", "expires_in": 1}
GARBAGE = {
    "refresh-dict": GOOD | {"refresh_token": {"x": 1}},
    "refresh-empty": GOOD | {"refresh_token": ""},
    "scope-dict": GOOD | {"scope": {"a": 1}},
    "scope-numbers": GOOD | {"scope": [1]},
    "id-token-number": GOOD | {"id_token": 5},
    "access-missing": {"refresh_token": "bad"},
    "access-list": {"access_token": ["a1"], "refresh_token": "bad"},
    "list": [GOOD],
    "null": None,
    "huge": GOOD | {"access_token": "x" * 2**20},
}


async def test_nothing_malformed_in_an_answer_is_stored_and_the_next_good_one_renews(start_hub):
    gate = Gate()

    async def grant(user, n):
        if n == 1:
            return GARBAGE[user]
        await gate.wait()
        return tokens(user, n)

    hub, authenticator = await start(start_hub, Provider(grant))
    users = await servers(hub, GARBAGE, left=-10)
    for name, user in users.items():
        stored = await user.get_auth_state()
        for node in (stored, stored["token_response"]):
            assert node["refresh_token"] == f"{name}-r0"
            assert isinstance(node["access_token"], str) and isinstance(
                node.get("id_token"), (str, type(None))
            )
            assert all(isinstance(scope, str) for scope in node.get("scope", []))
    gate.open()
    assert await asyncio.gather(*map(authenticator.refresh_user, users.values())) == [True] * len(
        users
    )
    await until(
        lambda: (
            {name: shown(user) for name, user in users.items()}
            == {name: f"{name}-a2" for name in users}
        )
    )


USERINFO = {
    "null": (None, True),
    "list": ([], True),
    "empty": ({}, True),
    "retry-after": (error(403, **{"Retry-After": "60"}), True),
    "rate-limit": (error(403, **{"X-RateLimit-Remaining": "0"}), True),
    "remaining": (error(403, **{"X-RateLimit-Remaining": "1"}), False),
    "forbidden": (error(403), False),
}


@pytest.mark.parametrize(
    "left", [pytest.param(3000, id="at once"), pytest.param(-10, id="after a grant")]
)
async def test_a_user_stays_logged_in_unless_userinfo_refuses(start_hub, left):
    hub, authenticator = await start(
        start_hub, Provider(userinfo=lambda user, n: USERINFO[user][0])
    )
    for name, (_, stays) in USERINFO.items():
        user = await visitor(hub, name, login(name, left))
        assert await authenticator.refresh_user(user) is stays, name


# -- time ------------------------------------------------------------------------------------------


def clock(seconds):
    return lambda user, n: tokens(user, n, expires_in=2, created_at=int(time.time()) + seconds)


def same_until_its_end(rounded):
    def same(user, n):
        end = math.ceil(time.time() / 2 + 0.01) * 2
        return tokens(user, end, refresh_token=f"{user}-r0", expires_in=rounded(end - time.time()))

    return same


@pytest.mark.parametrize(
    "grants",
    [
        pytest.param(
            {
                "due-on-arrival": lambda user, n: asyncio.sleep(
                    1.2 * (n == 2), tokens(user, n, expires_in=2)
                ),
                "behind": clock(-1000),
                "ahead": clock(1000),
            },
            id="slow, or with a wrong clock",
        ),
        pytest.param({"same": same_until_its_end(float)}, id="the same token until its end"),
        pytest.param({"same": same_until_its_end(math.ceil)}, id="the same, rounded up"),
    ],
)
async def test_a_running_server_gets_token_after_token_from_a_provider_that_is(start_hub, grants):
    provider = Provider(lambda user, n: grants[user](user, n))
    hub, _ = await start(start_hub, provider)
    users = await servers(hub, grants, left=-10)
    seen = {name: set() for name in users}

    def have_seen_three():
        for name, user in users.items():
            seen[name].add(shown(user))
        return all(len(values) >= 3 for values in seen.values())

    await until(have_seen_three)
    assert not bursts(provider)


LIVES = {
    "one": {"expires_in": 1},
    "fifth": {"expires_in": 0.2},
    "zero": {"expires_in": 0},
    "negative": {"expires_in": -5},
    "infinite": {"expires_in": math.inf},
    "text": {"expires_in": "abc"},
    "over": {"expires_at": 1},
}


async def test_a_life_too_short_or_without_sense_makes_no_burst_of_requests(start_hub):
    provider = Provider(lambda user, n: tokens(user, n, **LIVES[user]))
    hub, _ = await start(start_hub, provider)
    await servers(hub, LIVES, left=-10)
    await until(lambda: len(provider.grants["one"]) >= 4)
    assert provider.grants.keys() == LIVES.keys()
    assert not bursts(provider)


# -- authenticators and hooks with a way of their own ----------------------------------------------


def by_hook(refresh):
    return {"refresh_user_hook": lambda authenticator, user, auth_state: refresh(user)}


def by_override(refresh):
    class Overrides(GenericOAuthenticator):
        async def refresh_user(self, user, handler=None, **kwargs):
            return await refresh(user)

    return {"base": Overrides}


class Rotation:
    """Makes a new login of each request, and says nothing of its age."""

    def __init__(self):
        self.grants = {"rotation": []}

    async def refresh(self, user):
        self.grants["rotation"].append(time.monotonic())
        answer = tokens("own", len(self.grants["rotation"]))
        return {"name": user.name, "auth_state": make_auth_state(user.name, answer)}


async def test_an_authenticator_that_rotates_by_itself_is_not_asked_in_a_burst(start_hub):
    rotation = Rotation()
    hub, _ = await start(start_hub, Provider(), **by_hook(rotation.refresh))
    alice = await hub.user("alice", login("alice", -10))
    await hub.spawn(alice)
    assert shown(alice) == "own-a1"
    for n in (2, 3):
        await alice.save_auth_state(login("alice", -10, n))
        await until(lambda n=n: shown(alice) == f"own-a{n}")
    assert not bursts(rotation)


@pytest.mark.parametrize("way", [by_hook, by_override])
async def test_tokens_of_such_an_authenticator_outlive_failing_commits_and_late_saves(
    start_hub, way
):
    hub, authenticator = await start(start_hub, Provider(), **way(Rotation().refresh))
    alice = await visitor(hub)
    before = await alice.get_auth_state()
    with failing(hub.app.db, "before_commit", 1):
        assert await authenticator.refresh_user(alice) is True
    await alice.save_auth_state(before | {"note": "late"})
    stored = await alice.get_auth_state()
    assert (stored["access_token"], stored["refresh_token"], stored["note"]) == (
        "own-a1",
        "own-r1",
        "late",
    )
    hub.app.db.refresh(alice.orm_user)
    assert (await alice.get_auth_state())["refresh_token"] == "own-r1"


async def test_a_login_is_not_undone_by_a_late_save_of_what_was_read_before(start_hub):
    hub, _ = await start(start_hub, Provider())
    alice = await visitor(hub)
    before = await alice.get_auth_state()
    await alice.save_auth_state(login("alice", n=7))
    await alice.save_auth_state(before)
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r7"


async def test_two_grants_that_a_hook_asks_for_at_once_are_one_request(start_hub):
    provider = Provider()

    async def hook(authenticator, user, auth_state):
        params = authenticator.build_refresh_token_request_params(auth_state["refresh_token"])
        answers = await asyncio.gather(
            *(authenticator.get_token_info(None, params) for _ in range(2))
        )
        assert {answer["access_token"] for answer in answers} == {"alice-a1"}
        return True

    hub, authenticator = await start(start_hub, provider, refresh_user_hook=hook)
    alice = await visitor(hub)
    assert await authenticator.refresh_user(alice) is True
    assert len(provider.grants["alice"]) == 1
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r1"


async def test_a_hook_that_hangs_does_not_delay_the_stop_of_the_server(start_hub):
    gate = Gate()
    hangs = False

    async def hook(authenticator, user, auth_state):
        if hangs:
            await gate.wait()

    hub, _ = await start(start_hub, Provider(), refresh_user_hook=hook)
    alice = (await servers(hub, ["alice"]))["alice"]
    hangs = True
    await alice.save_auth_state(login("alice", -10, 5))
    await gate.reached.wait()
    await asyncio.wait_for(alice.stop(""), 9)
    assert hub.token_directories == []


async def test_a_server_whose_delivery_hangs_stops_at_once(start_hub):
    gate = Gate()

    class Hangs(SIMPLE):
        async def deliver_files(self, files):
            if files["t"] == b"alice-a5":
                await gate.wait()
            await super().deliver_files(files)

    hub = await start_hub(Hangs, Provider().settings())
    alice = (await servers(hub, ["alice"]))["alice"]
    await alice.save_auth_state(login("alice", n=5))
    await gate.reached.wait()
    await asyncio.wait_for(alice.stop(""), 9)
    gate.open()
    assert hub.token_directories == []


# -- who is meant ----------------------------------------------------------------------------------


async def test_what_is_found_out_about_a_deleted_user_is_not_told_of_the_next_one_with_the_id(
    start_hub,
):
    gate = Gate()

    async def userinfo(user, n):
        if user == "root":
            await gate.wait()
        return {"username": user}

    hub, authenticator = await start(start_hub, Provider(userinfo=userinfo), admin_users={"root"})
    root = await visitor(hub, "root")
    check = asyncio.create_task(authenticator.refresh_user(root))
    await gate.reached.wait()
    await root.delete_spawners()
    hub.app.users.delete(root)
    bob = await visitor(hub, "bob")
    assert bob.id == root.id
    assert await authenticator.refresh_user(bob) is True
    gate.open()
    assert (await check)["admin"] is True
    assert await authenticator.refresh_user(bob) is True


async def test_a_deleted_user_is_forgotten_with_their_refresh_token(start_hub):
    hub, _ = await start(start_hub, Provider())

    async def renew_and_delete():
        alice = (await servers(hub, ["alice"], left=-10))["alice"]
        await until(lambda: shown(alice) == "alice-a1")
        await alice.stop("")
        await alice.delete_spawners()
        hub.app.users.delete(alice)
        return weakref.ref(alice.orm_user)  # it has the encrypted auth_state

    known = await renew_and_delete()

    def is_forgotten():
        gc.collect()
        return known() is None

    await until(is_forgotten)


async def test_a_user_whose_deletion_failed_is_not_forgotten(start_hub):
    hub, _ = await start(start_hub, Provider())
    alice = (await servers(hub, ["alice"]))["alice"]
    hub.app.db.delete(alice.orm_user)
    hub.app.db.flush()
    hub.app.db.rollback()
    await alice.save_auth_state(login("alice", n=7))
    await until(lambda: shown(alice) == "alice-a7")


async def test_a_refusal_that_came_too_late_is_told_to_the_next_who_asks(start_hub):
    gate = Gate()

    async def userinfo(user, n):
        await gate.wait()
        return error(401)

    provider = Provider(userinfo=userinfo)
    hub, authenticator = await start(
        start_hub, provider, {"TokenSpawnerMixin.tokens_renew_timeout": 0.1}
    )
    alice = await visitor(hub, auth_state=login("alice", refresh_token=None))
    assert await authenticator.refresh_user(alice) is True
    gate.open()

    async def is_refused():
        return await authenticator.refresh_user(alice) is False

    await until(is_refused)
    assert len(provider.checks["alice"]) == 1


async def test_a_login_that_gives_the_same_refresh_token_anew_ends_a_rejection(start_hub):
    provider = Provider(lambda user, n: error(400, "invalid_grant") if n == 1 else tokens(user, n))
    hub, _ = await start(start_hub, provider)
    alice = (await servers(hub, ["alice"], left=-10))["alice"]
    await until(lambda: status(alice) == "login_ended")
    await alice.save_auth_state(login("alice", left=1, access_token="alice-a7"))
    await until(lambda: (shown(alice), status(alice)) == ("alice-a2", "ok"))


async def test_a_server_that_stopped_gets_nothing_more_nor_if_its_tokens_renew_became_false(
    start_hub,
):
    provider = Provider()
    hub, _ = await start(start_hub, provider)
    users = await servers(hub, ["alice", "bob", "carol"])
    alice, bob, carol = users.values()
    alice.spawners[""].tokens_renew = False
    await asyncio.gather(alice.stop(""), carol.stop(""))
    for name, user in users.items():
        await user.save_auth_state(login(name, -10, n=5))
    await until(lambda: shown(bob) == "bob-a1")
    assert provider.grants.keys() == {"bob"}
    assert len(hub.token_directories) == 1


# -- a database in trouble -------------------------------------------------------------------------


async def test_a_running_server_is_renewed_once_the_database_is_back(start_hub, caplog):
    gate = Gate()

    async def grant(user, n):
        await gate.wait()
        return tokens(user, n)

    hub, _ = await start(start_hub, Provider(grant))
    alice = (await servers(hub, ["alice"]))["alice"]
    await alice.save_auth_state(login("alice", -10, n=5))
    await gate.reached.wait()
    with failing(hub.app.db.get_bind(), "before_cursor_execute") as failures:
        gate.open()
        await until(lambda: len(failures) >= 3)
    await until(lambda: shown(alice) == "alice-a1")
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r1"


async def test_a_spawn_and_a_stop_go_through_when_renewal_cannot_read(start_hub, caplog):
    def read_anew(spawner):  # the next one who looks at the auth_state asks the database
        spawner.user.db.expire(spawner.user.orm_user, ["encrypted_auth_state"])

    hub, _ = await start(start_hub, Provider(), {"Spawner.pre_spawn_hook": read_anew})
    alice = (await servers(hub, ["alice"]))["alice"]
    said = "Cannot look after the tokens of alice"
    database = hub.app.db.get_bind(), "before_cursor_execute"
    with failing(*database, 1, "encrypted_auth_state"):
        await hub.spawn(alice, "b")
    assert caplog.text.count(said) == 1 and shown(alice, "b") == "alice-a0"

    read_anew(alice.spawners["b"])
    with failing(*database, having="encrypted_auth_state"):
        await alice.stop("b")
    assert caplog.text.count(said) == 2
    assert len(hub.token_directories) == 1


# -- what is kept ----------------------------------------------------------------------------------


def kept(needle):
    """The texts anywhere in this process in which there is this one."""
    gc.collect()
    found, level = [], gc.get_objects()
    while level:
        level = gc.get_referents(*level)
        found += [
            x
            for x in level
            if isinstance(x, (str, bytes)) and x is not needle and contains(x, needle)
        ]
        level = [x for x in level if isinstance(x, (dict, tuple)) and not gc.is_tracked(x)]
    return found


def contains(text, needle):
    return needle in text if isinstance(text, str) else needle.encode() in text


async def test_after_a_failed_grant_nothing_in_the_hub_holds_the_refresh_token(start_hub, caplog):
    caplog.set_level(logging.DEBUG)
    token = f"alice-{secrets.token_hex()}"
    held = set()

    def grant(user, n):
        held.update(map(type, kept(token)))
        return error(400, "invalid_grant")

    settings = {"JupyterHub.log_level": logging.DEBUG}
    settings["TokenSpawnerMixin.tokens_renew_timeout"] = 60  # the search takes long
    hub, authenticator = await start(start_hub, Provider(grant), settings)
    alice = await visitor(hub, auth_state=login("alice", -10, refresh_token=token))
    assert await authenticator.refresh_user(alice) is False
    assert held == {bytes, str}  # the search can find
    await until(lambda: kept(token) == [])  # what was read is kept for others for a second
    assert "DEBUG" in caplog.text and token not in caplog.text
