"""The doctor and hooks that write tokens into the environment, as they did before."""

import re
from textwrap import dedent

import pytest
import yaml
from pytest import param

from .examining import SOUND, VERBS, append, cluster, examine, find_and_mend, hubs_environment, of, serve  # noqa: F401
from .test_readme import values_files

CASES = [
    param(
        SOUND
        + dedent(
            """
            async def add_token(spawner):
                auth_state = await spawner.user.get_auth_state()
                spawner.environment["GITLAB_ACCESS_TOKEN"] = auth_state["access_token"]

            c.Spawner.pre_spawn_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-hook",
    ),
    param(
        SOUND
        + dedent(
            """
            def add_token(spawner, auth_state):
                spawner.environment.update({"TOKEN": auth_state["access_token"]}, GITLAB_EMAIL="")

            c.SimpleLocalProcessSpawner.auth_state_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="auth-state-hook",
    ),
    param(
        SOUND
        + dedent(
            """
            from oauthenticator.gitlab import GitLabOAuthenticator

            class Mine(GitLabOAuthenticator):
                async def pre_spawn_start(self, user, spawner):
                    auth_state = await user.get_auth_state()
                    spawner.environment["GITLAB_TOKEN"] = auth_state["access_token"]

            c.JupyterHub.authenticator_class = Mine
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-start",
    ),
    param(
        SOUND
        + dedent(
            """
            def add_token(spawner):
                env = spawner.environment
                env.setdefault("API_TOKEN", spawner.user.auth_state)

            c.Spawner.pre_spawn_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-hook-with-another-name-for-it",
    ),
]


@pytest.mark.parametrize("config, id, mend", CASES)
def test_a_mistake_is_found_and_the_printed_fix_mends_it(examine, config, id, mend):
    find_and_mend(examine, config, id, mend)


# Other ways to write the same: each of them is a hook called ``add_token``.
WRITERS = [
    param(
        """
        from functools import partial
        def add(variable, spawner, auth_state):
            spawner.environment[variable] = auth_state["access_token"]
        add_token = partial(partial(add, "GITLAB_TOKEN"))
        """,
        id="partial",
    ),
    param(
        """
        class Adder:
            def __call__(self, spawner, auth_state):
                self.add(spawner.environment, auth_state["access_token"])
            def add(self, variables, value):
                variables["GITLAB_TOKEN"] = value
        add_token = Adder()
        """,
        id="object",
    ),
    param(
        """
        class Adders:
            @staticmethod
            def add(spawner, auth_state):
                spawner.environment["GITLAB_TOKEN"] = auth_state["access_token"]
            @classmethod
            def add_all(cls, *given):
                cls.add(*given)
        add_token = Adders.add_all
        """,
        id="class-method",
    ),
    param(
        """
        def add_token(spawner, auth_state):
            if auth_state:
                put(spawner.environment, secret=auth_state["access_token"])
        def put(variables, secret):
            add(variables, secret)
        def add(env, secret):
            env.update({"GITLAB_TOKEN": secret})
            if not secret:
                put(env, secret)
        """,
        id="helpers",
    ),
    param(
        """
        def make_hook(variable):
            def add(env, auth_state):
                env[variable] = auth_state["access_token"]
            return lambda spawner, auth_state: add(spawner.environment, auth_state)
        add_token = make_hook("GITLAB_TOKEN")
        """,
        id="closure",
    ),
    param(
        """
        import asyncio
        async def add_token(spawner, auth_state):
            await asyncio.to_thread(add, spawner, auth_state)
        def add(spawner, auth_state):
            spawner.environment |= {**spawner.environment, "TOKEN_GITLAB": auth_state["access_token"]}
        """,
        id="handed-on",
    ),
    param(
        """
        import helpers_of_hub
        async def add_token(spawner, auth_state):
            await helpers_of_hub.add(spawner, auth_state)
        """,
        id="module",
    ),
    param(
        """
        from functools import wraps
        def logged(function):
            @wraps(function)
            def call(spawner, auth_state):
                return function(spawner, auth_state)
            return call
        @logged
        def add_token(spawner, auth_state):
            spawner.environment["GITLAB_TOKEN"] = auth_state["access_token"]
        """,
        id="decorated",
    ),
    param(
        """
        add_token = [
            lambda spawner, auth_state: spawner.environment.update(GITLAB_TOKEN=auth_state["access_token"]),
        ][0]
        """,
        id="lambda",
    ),
]


@pytest.mark.parametrize("code", WRITERS)
def test_a_hook_is_read_with_all_that_it_calls(examine, monkeypatch, tmp_path, code):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helpers_of_hub.py").write_text(
        'async def add(spawner, state):\n    spawner.environment["GITLAB_TOKEN"] = state["access_token"]\n'
    )
    config = f"{SOUND}{dedent(code)}\nc.Spawner.auth_state_hook = add_token\n"
    find_and_mend(examine, config, "hook-writes-tokens", append_or_remove)


def append_or_remove(config, fix):
    """The printed line, or what the printed words say: here the hook does nothing else."""
    if fix[0]["kind"] == "words":
        assert fix[0]["text"].startswith("remove from Spawner.auth_state_hook what sets "), fix
        return config.replace("c.Spawner.auth_state_hook = add_token", "")
    return append(config, fix)


MORE = """
import os

def limit(spawner):
    spawner.mem_limit = "2G"

async def prepare(spawner):
    auth_state = await spawner.user.get_auth_state()
    {more}
    secret = auth_state["access_token"]
    spawner.environment["GITLAB"] = secret
    spawner.environment.update(
        GITLAB_TOKEN=secret,
    )

c.Spawner.pre_spawn_hook = prepare
"""


@pytest.mark.parametrize(
    "more, is_all",
    [
        param("if not auth_state: return", True, id="guard"),
        param('spawner.environment["GITLAB_EMAIL"] = "…"', True, id="what-a-spec-sets"),
        param('spawner.environment["TEAM"] = "a"', False, id="other-variable"),
        param("limit(spawner)", False, id="helper"),
        param('spawner.mem_limit = "2G"', False, id="other-setting"),
        param('spawner.log.info("…")', False, id="call"),
        param('os.environ.get("A") or os.mkdir("a")', False, id="call-inside"),
        param("del spawner.volumes", False, id="del"),
        param("import antigravity", False, id="import"),
        param("if not auth_state: raise RuntimeError", False, id="refusal"),
    ],
)
def test_a_hook_that_does_more_is_not_dropped(examine, more, is_all):
    config = SOUND + MORE.format(more=more)
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "warning")
    assert found["id"] == "hook-writes-tokens" and "sets GITLAB, GITLAB_TOKEN in" in found["what"]
    (part,) = found["fix"]
    if is_all:
        assert part == {"kind": "config", "text": "c.Spawner.pre_spawn_hook = None"}
        return
    lines = config.splitlines()
    assert part["kind"] == "words" and part["text"].endswith("; it does more, which stays")
    for variable, line in re.findall(r"(\w+) \(line (\d+)\)", part["text"]):
        assert variable in lines[int(line) - 1]
        lines[int(line) - 1] = lines[int(line) - 1].partition("spawner")[0].replace("GITLAB_TOKEN=secret,", "") + "# gone"
    assert "hook-writes-tokens" not in of(examine("\n".join(lines).replace("secret =", "pass #") + "\n")[1], "warning")


def test_a_class_that_does_more_is_not_dropped(examine):
    (config,) = (case.values[0] for case in CASES if case.id == "pre-spawn-start")
    for more, kind in [
        ("", "config"),
        ("\nc.Mine.client_id = 'id'\n", "words"),
        ("\nMine.authenticate = lambda self, *given: None\n", "words"),
    ]:
        (found,) = (finding for finding in examine(config + more)[1] if finding["level"] == "warning")
        assert [part["kind"] for part in found["fix"]] == [kind]
    assert "Mine.pre_spawn_start what sets GITLAB_TOKEN (line " in found["fix"][0]["text"]


@pytest.mark.parametrize(
    "name, unread",
    [
        param("print", "print", id="compiled"),
        param("partial(print, sep='')", "print", id="partial"),
        param("Spawner", "Spawner", id="class"),
        param("eval('lambda spawner: None')", "<lambda>", id="evaluated"),
        param("lambda spawner: hidden(spawner)", "hidden", id="helper"),
    ],
)
def test_a_hook_without_a_source_is_said(examine, name, unread):
    config = "from functools import partial\nfrom jupyterhub.spawner import Spawner\nexec('def hidden(spawner): pass')\n"
    status, findings = examine(f"{SOUND}{config}c.Spawner.pre_spawn_hook = {name}\n")
    (said,) = (finding for finding in findings if finding["id"] == "hooks")
    assert status == 0 and of(findings, "warning") == []
    assert said["what"] == f"Not looked at, since there is no source: {unread} (Spawner.pre_spawn_hook)."


@pytest.mark.parametrize(
    "variable, is_found",
    [
        param("GITHUB_TOKEN", True, id="last"),
        param("TOKEN_GITHUB", True, id="first"),
        param("A_TOKEN_B", True, id="inside"),
        param("gitlab_token", True, id="small"),
        param("TOKENIZERS_PARALLELISM", False, id="longer"),
        param("MAX_TOKENS", False, id="plural"),
    ],
)
def test_token_is_a_word_of_a_variables_name(examine, variable, is_found):
    hook = dedent(
        f"""
        def prepare(spawner, auth_state):
            if auth_state:
                spawner.environment["{variable}"] = "false"
        c.Spawner.auth_state_hook = prepare
        """
    )
    assert ("hook-writes-tokens" in of(examine(SOUND + hook)[1], "warning")) == is_found


def test_a_hook_that_leaves_the_environment_alone_is_left_alone(examine):
    hook = dedent(
        """
        async def look(spawner):
            auth_state = await spawner.user.get_auth_state()
            spawner.environment["TEAM"] = "a" if auth_state else "b"

        def other(spawner):
            spawner.environment["SOME_TOKEN"] = "b"

        class Callable:
            def __call__(self, spawner):
                pass

        c.Spawner.pre_spawn_hook = look
        """
    )
    for name in ("look", "other", "Callable()", "print", "lambda spawner: spawner.environment"):
        status, findings = examine(SOUND + hook + f"c.Spawner.pre_spawn_hook = {name}\n")
        assert status == 0 and of(findings, "warning") == [], name


def test_a_hook_in_the_charts_values_is_read_too(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"].setdefault("extraConfig", {})["hook"] = dedent(
        """
        async def hook(spawner):
            auth_state = await spawner.user.get_auth_state()
            spawner.environment["TOKEN"] = auth_state["access_token"]

        if get_config("custom.hook"):
            c.KubeSpawner.pre_spawn_hook = hook
        """
    )
    values["custom"] = {"hook": True}
    _, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] == "warning")
    assert found["id"] == "hook-writes-tokens" and "sets TOKEN" in found["what"]
    text = "remove from Spawner.pre_spawn_hook what sets TOKEN (line 4 of hub.extraConfig.hook)"
    assert found["fix"] == [{"kind": "words", "text": text}]
