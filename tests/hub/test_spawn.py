"""Real spawns: what a server's own process finds in its environment and in its files."""

import asyncio
import logging

import pytest
from jupyterhub import orm
from jupyterhub.spawner import Spawner

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"


def auth_state(token="the-token", **fields):
    return {"access_token": token, "refresh_token": "the-refresh-token", **fields}


async def test_a_server_holds_its_users_token_as_variable_and_file(start_hub):
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": {"gitlab": {"preset": "gitlab"}}})
    user = await hub.user(
        "alice", auth_state(gitlab_user={"username": "alice-lab", "email": None, "name": "Älice"})
    )
    server = await hub.spawn(user)
    env, files = await server.env(), await server.files()
    assert env["GITLAB_TOKEN"] == env["GITLAB_ACCESS_TOKEN"] == files["gitlab"] == b"the-token"
    assert env["GITLAB_TOKEN_FILE"] == env["SPAWNER_TOKENS_DIR"] + b"/gitlab"
    assert (env["GITLAB_USER"], env["GITLAB_NAME"].decode()) == (b"alice-lab", "Älice")
    assert "GITLAB_EMAIL" not in env  # null at the provider
    assert env["GITLAB_HOST"] == b"gitlab.com"
    assert b'"status": "ok"' in files["gitlab.json"]
    await user.stop("")
    assert hub.token_directories == []


HOSTILE = {
    "brace": "{",
    "format-fields": "{username}{0}{}",
    "shell-and-percent": "$(X) $HOME `id` %s %(x)s %",
    "quotes": "'\"\\",
    "newlines-and-spaces": " a\n\r\n\tb \n",
    "unicode": "😀é\u200b",
    "control-characters": "\x01\x1b[31m\x7f",
    "long": "x" * 65536,
}
NO_TEXT = {"nul": "a\0b", "surrogate": "\ud800"}


async def test_a_hostile_value_is_delivered_byte_for_byte_or_withheld(start_hub, caplog):
    values = HOSTILE | NO_TEXT
    variable = {name: name.upper().replace("-", "_") for name in values}
    tokens = {
        name: {"key": name, "env": env, "variables": {f"{env}_USER": f"user.{name}"}}
        for name, env in variable.items()
    }
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": tokens})
    # One that has the token in it would be left out.
    user = {name: value[1:] + "-" for name, value in HOSTILE.items()}
    server = await hub.spawn(await hub.user("alice", {**values, "user": user}))
    env, files = await server.env(), await server.files()
    for name, value in HOSTILE.items():
        assert env[variable[name]] == files[name] == value.encode()
        assert env[f"{variable[name]}_USER"] == user[name].encode()
    for name in NO_TEXT:
        assert variable[name] not in env and name not in files and f"{name}.json" in files
        assert f"token {name}: cannot be delivered (it has a NUL byte" in caplog.text


async def test_two_named_servers_of_one_user_have_files_of_their_own(start_hub):
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": {"t": {}}})
    user = await hub.user("alice", auth_state())
    one, two = await asyncio.gather(hub.spawn(user, "one"), hub.spawn(user, "two"))
    assert (await one.env())["SPAWNER_TOKENS_DIR"] != (await two.env())["SPAWNER_TOKENS_DIR"]
    await user.stop("one")
    assert await two.token() == b"the-token"
    await user.stop("two")
    assert hub.token_directories == []


async def test_a_mixin_alone_delivers_variables_to_any_spawner(start_hub):
    hub = await start_hub(
        "tests.support.spawners.VariablesOnly",
        {"TokenSpawnerMixin.tokens": {"t": {"env": "T", "variables": {"U": "u"}}}},
    )
    server = await hub.spawn(await hub.user("alice", auth_state(u="me")))
    env = await server.env()
    assert (env["T"], env["U"]) == (b"the-token", b"me")
    assert "SPAWNER_TOKENS_DIR" not in env and "T_TOKEN_FILE" not in env


async def test_without_tokens_a_spawn_is_as_it_ever_was(start_hub):
    hub = await start_hub(SIMPLE, {"Authenticator.enable_auth_state": False})
    server = await hub.spawn(await hub.user())
    assert not [name for name in await server.env() if "TOKENS" in name]
    assert hub.token_directories == []


async def test_the_hooks_and_overrides_of_the_admin_come_first_and_in_order(start_hub, caplog):
    order = []

    def auth_state_hook(spawner, auth_state):
        order.append("auth_state_hook")
        spawner.environment["FROM_AUTH_STATE_HOOK"] = auth_state["u"]

    def pre_spawn_hook(spawner):
        order.append("pre_spawn_hook")
        spawner.environment["T"] = "the admin's own"
        spawner.tokens["late"] = {"env": "LATE"}

    def tokens_hook(spawner, auth_state, tokens):
        order.append("tokens_hook")
        return tokens

    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": ["T", "T2"]}},
        "TokenSpawnerMixin.tokens_hook": tokens_hook,
        "Spawner.auth_state_hook": auth_state_hook,
        "Spawner.pre_spawn_hook": pre_spawn_hook,
        "Spawner.environment": {"T2": lambda spawner: "called", "OTHER": "other"},
    }
    hub = await start_hub(SIMPLE, settings)
    server = await hub.spawn(await hub.user("alice", auth_state(u="me")))
    env = await server.env()
    assert order == ["auth_state_hook", "pre_spawn_hook", "tokens_hook"]
    assert (env["FROM_AUTH_STATE_HOOK"], env["OTHER"]) == (b"me", b"other")
    assert (env["T"], env["T2"], env["LATE"]) == (b"the admin's own", b"called", b"the-token")
    assert "Spawner.environment sets T, which wins" in caplog.text
    assert "Spawner.environment sets T2, which wins" in caplog.text


async def test_an_environment_that_changes_during_the_start_wins_too(start_hub, caplog):
    hub = await start_hub(
        "tests.support.spawners.WithProfile",
        {"TokenSpawnerMixin.tokens": {"t": {"env": ["T", "T2"]}}},
    )
    env = await (await hub.spawn(await hub.user("alice", auth_state()))).env()
    assert (env["T"], env["T2"]) == (b"from the profile", b"the-token")
    assert "Spawner.environment sets T, which wins" in caplog.text


async def test_group_overrides_change_the_tokens(start_hub):
    if not hasattr(Spawner, "group_overrides"):
        pytest.skip("this JupyterHub has no group overrides")
    overrides = {
        "1": {
            "groups": ["push"],
            "spawner_override": {
                "tokens": {"t": {"key": "other"}, "new": {"env": "NEW"}, "off": {"env": False}}
            },
        }
    }
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}, "off": {"env": "OFF"}},
        "Spawner.group_overrides": overrides,
    }
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice", auth_state(other="the-other-token"))
    user.orm_user.groups.append(orm.Group(name="push"))
    hub.app.db.commit()
    env = await (await hub.spawn(user)).env()
    assert (env["T"], env["NEW"]) == (b"the-other-token", b"the-token") and "OFF" not in env
    bob = await hub.user("bob", auth_state(other="the-other-token"))
    env = await (await hub.spawn(bob)).env()
    assert env["T"] == env["OFF"] == b"the-token" and "NEW" not in env


async def test_an_override_that_breaks_a_spec_fails_the_spawn_and_names_the_entry(
    start_hub, caplog
):
    def pre_spawn_hook(spawner):
        spawner.tokens["t"]["env"] = "PATH"

    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "Spawner.pre_spawn_hook": pre_spawn_hook,
    }
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice", auth_state())
    with pytest.raises(Exception, match="configuration of it is wrong"):
        await hub.spawn(user)
    assert "tokens['t'].env: the variable PATH is reserved" in caplog.text


async def test_config_is_never_grown_by_a_spawn(start_hub):
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "Spawner.environment": {"OTHER": "x"},
    }
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice", auth_state("first"))
    await hub.spawn(user)
    assert user.spawners[""].environment == {"OTHER": "x"}
    await user.stop("")
    await user.save_auth_state(auth_state("second"))
    assert (await (await hub.spawn(user)).env())["T"] == b"second"


async def test_the_token_hook_may_be_async_and_has_the_last_word(start_hub):
    seen = {}

    async def hook(spawner, auth_state, tokens):
        await asyncio.sleep(0)
        seen.update(tokens, user=spawner.user.name, keys=sorted(auth_state))
        return {"t": tokens["t"].upper(), "vault": "from-vault"}

    tokens = {"t": {"env": "T"}, "vault": {"key": "vault", "env": "V"}, "gone": {"env": "GONE"}}
    settings = {"TokenSpawnerMixin.tokens": tokens, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(SIMPLE, settings)
    env = await (await hub.spawn(await hub.user("alice", auth_state()))).env()
    assert seen == {
        "t": "the-token",
        "gone": "the-token",
        "user": "alice",
        "keys": ["access_token", "refresh_token"],
    }
    assert (env["T"], env["V"]) == (b"THE-TOKEN", b"from-vault") and "GONE" not in env


HOOKS = {
    "KeyError in <lambda>, line": lambda spawner, auth_state, tokens: 1 / len(tokens["x"]),
    "it did not return a dict": lambda spawner, auth_state, tokens: None,
    "TypeError in call": lambda spawner: {},
}


async def test_a_token_hook_that_fails_withholds_all_and_says_where(start_hub, caplog):
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}})
    user = await hub.user("alice", auth_state())
    for number, (words, hook) in enumerate(HOOKS.items()):
        hub.app.config.TokenSpawnerMixin.tokens_hook = hook
        server = await hub.spawn(user, f"s{number}")
        assert "T" not in await server.env()
        assert words in caplog.text
    hub.app.config.TokenSpawnerMixin.tokens_hook = lambda *args: {**args[2], args[2]["t"]: "t"}
    await hub.spawn(user)
    assert "undeclared names, 1 of them; declared: t" in caplog.text
    assert "the-token" not in caplog.text


async def test_skip_is_silent_and_warn_is_not(start_hub, caplog):
    tokens = {
        "a": {"key": "absent-a", "env": "A"},
        "b": {"key": "absent-b", "env": "B", "missing": "skip"},
        "c": {"variables": {"C": "absent-c"}},
        "d": {"variables": {"D": "absent-d"}, "missing": "skip"},
    }
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": tokens})
    server = await hub.spawn(await hub.user("alice", auth_state()))
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert (
        "alice: token a: not in auth_state (looked up 'absent-a'; "
        "auth_state has 'access_token', 'refresh_token')" in warnings
    )
    assert not [message for message in warnings if "token b" in message]
    omitted = [text for text in caplog.messages if "without these variables" in text]
    assert omitted == ["alice: token c comes without these variables: C (its key finds nothing)"]
    assert not {"A", "B", "C", "D"} & set(await server.env())


async def test_opening_the_spawn_page_prepares_nothing(start_hub):
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "TokenSpawnerMixin.tokens_missing": "refuse",
        "TokenSpawnerMixin.tokens_hook": lambda *args: pytest.fail("the hook ran"),
        "Spawner.options_form": "<input name='x'>",
    }
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice")
    browser = await hub.browser(user)
    for path in ("/hub/home", "/hub/spawn/alice"):
        answer = await browser.fetch(path)
        assert answer.code == 200
    assert "Server Options" in answer.body.decode()
    assert hub.token_directories == []
