"""The doctor and hooks that write tokens into the environment, as they did before."""

import re
from textwrap import dedent

import pytest
import yaml
from pytest import param

from ..project.test_readme import values_files
from ..support.examining import (  # noqa: F401
    SOUND,
    VERBS,
    append,
    by_hand,
    cluster,
    examine,
    find_and_mend,
    hubs_environment,
    of,
    serve,
)

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
        by_hand("c.SimpleLocalProcessSpawner.auth_state_hook = add_token", ""),
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
        by_hand("c.JupyterHub.authenticator_class = Mine", ""),
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
        by_hand("c.Spawner.pre_spawn_hook = add_token", ""),
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
import json
import requests

class Vault:
    def get(self, name): return name

vault = Vault()

def limit(spawner):
    spawner.mem_limit = "2G"

async def prepare(spawner):
    auth_state = await spawner.user.get_auth_state()
    {more}
    secret = auth_state["access_token"]
    spawner.environment["GITLAB_TOKEN"] = secret
    spawner.environment.update(
        GITLAB_ACCESS_TOKEN=secret,
    )

c.TokenSpawnerMixin.tokens["gitlab"]["env"] = ["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"]
c.Spawner.pre_spawn_hook = prepare
"""


@pytest.mark.parametrize(
    "more, is_all",
    [
        param("if not auth_state: return", True, id="guard"),
        param(
            'if auth_state is None or "access_token" not in auth_state: return', True, id="guards"
        ),
        param('"What the old Hub did."', True, id="docstring"),
        param(
            'spawner.environment["GITLAB_EMAIL"] = auth_state.get("gitlab_user")["email"]',
            True,
            id="what-a-spec-sets",
        ),
        param('spawner.environment["TEAM"] = "a"', False, id="other-variable"),
        param("limit(spawner)", False, id="helper"),
        param('spawner.mem_limit = "2G"', False, id="other-setting"),
        param('spawner.environment = {"GITLAB_TOKEN": ""}', False, id="all-variables"),
        param('spawner.log.info("…")', False, id="call"),
        param('answer = requests.get("https://billing.example.org/")', False, id="request"),
        param('lease = vault.get("lease")', False, id="own-get"),
        param('mounts = list(map(spawner.args.append, ["--debug"]))', False, id="map"),
        param("del spawner.volumes", False, id="del"),
        param("import antigravity", False, id="import"),
        param("if not auth_state: raise RuntimeError", False, id="refusal"),
        param("if not spawner.user.admin: return", False, id="not-for-all"),
        param('if auth_state["gitlab_user"]["bot"]: return', False, id="not-for-all-by-a-claim"),
        param(
            'is_bot = auth_state["gitlab_user"]["bot"]\n    if is_bot: return',
            False,
            id="not-for-all-by-a-name",
        ),
        param('if "is_bot" in auth_state: return', False, id="not-for-all-by-a-key"),
        param("assert auth_state", False, id="assertion"),
    ],
)
def test_a_hook_that_does_more_is_not_dropped(examine, more, is_all):
    config = SOUND + MORE.format(more=more)
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "warning")
    assert (
        found["id"] == "hook-writes-tokens"
        and "sets GITLAB_TOKEN, GITLAB_ACCESS_TOKEN in" in found["what"]
    )
    (part,) = found["fix"]
    if is_all:
        assert part == {"kind": "config", "text": "c.Spawner.pre_spawn_hook = None"}
        return
    lines = config.splitlines()
    assert part["kind"] == "words" and part["text"].endswith("; what else it does stays")
    for variable, number in re.findall(r"(\w+) \(line (\d+)\)", part["text"]):
        line = lines[int(number) - 1]
        assert variable in line
        lines[int(number) - 1] = (
            "" if "update" not in line and "spawner" not in line else "    pass"
        )
    assert "hook-writes-tokens" not in of(examine("\n".join(lines) + "\n")[1], "warning")


def test_a_variable_that_no_spec_has_is_not_lost(examine):
    hook = """
def hook(spawner, auth_state):
    spawner.environment["GIT_PASSWORD"] = auth_state["access_token"]
    spawner.environment["GITLAB_TOKEN"] = auth_state["access_token"]
c.Spawner.auth_state_hook = hook
"""
    (found,) = (finding for finding in examine(SOUND + hook)[1] if finding["level"] == "warning")
    place = "remove from Spawner.auth_state_hook what sets GIT_PASSWORD (line 11), GITLAB_TOKEN (line 12)"
    text = f"{place}; first name GIT_PASSWORD in the env of a spec, if servers need it"
    assert found["fix"] == [{"kind": "words", "text": text}]
    declared = (
        SOUND
        + 'c.TokenSpawnerMixin.tokens["gitlab"]["env"] = ["GIT_PASSWORD", "GITLAB_TOKEN"]\n'
        + hook
    )
    (found,) = (finding for finding in examine(declared)[1] if finding["level"] == "warning")
    assert found["fix"] == [{"kind": "config", "text": "c.Spawner.auth_state_hook = None"}]


def test_a_class_of_the_admins_is_never_dropped(examine):
    (config,) = (case.values[0] for case in CASES if case.id == "pre-spawn-start")
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "warning")
    (part,) = found["fix"]
    text = "remove from Mine.pre_spawn_start what sets GITLAB_TOKEN (line "
    assert part["kind"] == "words" and part["text"].startswith(text)


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
    assert (
        said["what"]
        == f"Not looked at, since there is no source: {unread} (Spawner.pre_spawn_hook)."
    )


# What a hook does with ``spawner.environment`` and ``auth_state``, and the variables that are told.
VALUES = [
    param('env["K_TOKEN"] = auth_state["kerb"]', ["K_TOKEN"], id="name-of-a-token"),
    param('env["k_token"] = auth_state["kerb"]', ["k_token"], id="small"),
    param('env["TOKENIZERS_PARALLELISM"] = auth_state["kerb"]', [], id="longer-name"),
    param('env["MAX_TOKENS"] = auth_state["kerb"]', [], id="plural"),
    param('env["TOKEN_ISSUER"] = auth_state["kerb"]', [], id="issuer"),
    param('env["OAUTH_TOKEN_URL"] = "https://gitlab.example.org/oauth/token"', [], id="constant"),
    param('env["SOME_TOKEN"] = "x"', [], id="constant-token"),
    param('env["MLFLOW_TRACKING_TOKEN"] = open("/etc/x").read()', [], id="file"),
    param('env["HAS_TOKEN"] = str(bool(auth_state))', [], id="whether"),
    param('env["TEAM"] = "a" if auth_state else "b"', [], id="choice"),
    param('env["NAME"] = auth_state and auth_state["gitlab_user"]["name"]', [], id="claim"),
    param('env["NAME"] = ask(auth_state["access_token"])["name"]', [], id="answer"),
    param(
        'env["NAME"] = ",".join(g["name"] for g in auth_state["gitlab_groups"])', [], id="claims"
    ),
    param('env["GROUPS"] = ",".join(ask(auth_state["access_token"]))', [], id="answers"),
    param(
        'env["NAME"] = json.loads(auth_state["id_token"].split(".")[1])["name"]',
        [],
        id="claim-of-id-token",
    ),
    param(
        'me = ask(headers={"a": "Bearer " + auth_state["access_token"]}); env["EMAIL"] = me["email"]',
        [],
        id="headers",
    ),
    param('env["MY_TOKEN"] = ask(auth_state["access_token"])', ["MY_TOKEN"], id="exchange"),
    param('env["A"] = "Bearer " + auth_state["access_token"].strip()', ["A"], id="concatenated"),
    param("env[\"A\"] = f\"x:{auth_state.get('access_token', '')}\"", ["A"], id="f-string"),
    param('env["A"] = auth_state["token_response"]["refresh_token"]', ["A"], id="refresh-token"),
    param('env["A"] = auth_state["token_response"]["scope"]', [], id="scope"),
    param('a = auth_state["token_response"]; b = a["id_token"]; env["A"] = b', ["A"], id="names"),
    param('env["A"] = json.dumps(auth_state)', ["A"], id="all"),
    param(
        'env["A"] = base64.b64encode(json.dumps(auth_state).encode()).decode()',
        ["A"],
        id="all-in-base64",
    ),
    param('env["A"] = json.dumps({"t": auth_state["access_token"]})', ["A"], id="document"),
    param("env.update({k: str(v) for k, v in auth_state.items()})", ["…"], id="all-items"),
    param("for k, v in TABLE.items(): env[k] = auth_state[v]", ["…"], id="table"),
    param("for v in ENDLESS: env[v] = auth_state", ["…"], id="table-in-itself"),
    param("for k, v in CLAIMS.items(): env[k] = auth_state[v]", [], id="table-of-claims"),
    param(
        'for name in ("A", "B"): env[f"{name}_TOKEN"] = auth_state[name]',
        ["…_TOKEN"],
        id="f-string-name",
    ),
    param('env[NAME] = auth_state["access_token"]', ["GITLAB_TOKEN"], id="constant-name"),
    param('x: dict = env; x["A"] = auth_state["access_token"]', ["A"], id="annotated"),
    param('(x := env)["A"] = (y := auth_state)["access_token"]', ["A"], id="walrus"),
    param('x, y = env, auth_state; x["A"] = y["access_token"]', ["A"], id="tuple"),
    param('env["A"], env["B"] = auth_state["access_token"], "x"', ["A"], id="tuple-of-variables"),
    param(
        'def put(e): e["A"] = auth_state["access_token"]\n    put(env)', ["A"], id="function-inside"
    ),
    param(
        'def put(v): env["A"] = v\n    put(v=auth_state["access_token"])',
        ["A"],
        id="value-of-function-inside",
    ),
    param('env.update({**{"A": auth_state["access_token"]}})', ["A"], id="unpacked"),
    param('map(put, env, auth_state["access_token"])', ["A"], id="handed-on"),
]


@pytest.mark.parametrize("line, variables", VALUES)
def test_what_is_told_is_made_of_a_token(examine, line, variables):
    hook = f"""
import base64, json
NAME = "GITLAB_TOKEN"
TABLE = {{"GITLAB_TOKEN": "access_token"}}
CLAIMS = {{"GITLAB_NAME": "name"}}
ENDLESS = []
ENDLESS.append(ENDLESS)
def ask(*given, **more): return {{}}
def put(e, v): e["A"] = v
def hook(spawner, auth_state):
    env = spawner.environment
    {line}
c.Spawner.auth_state_hook = hook
"""
    found = [finding for finding in examine(SOUND + hook)[1] if finding["level"] == "warning"]
    assert [
        finding["what"].partition(" sets ")[2].partition(" in the ")[0] for finding in found
    ] == ([", ".join(variables)] if variables else [])


@pytest.mark.parametrize(
    "method",
    [
        param(
            """
    async def start(self):
        state = await self.user.get_auth_state()
        self.environment["A"] = state["access_token"]
        return await super().start()
    """,
            id="start",
        ),
        param(
            """
    def get_env(self):
        variables = super().get_env()
        variables["A"] = self.auth_state["access_token"]
        return variables
    """,
            id="get_env",
        ),
        param(
            """
    async def run_pre_spawn_hook(self):
        self.put(await self.user.get_auth_state())
    def put(self, state):
        self.environment["A"] = state["access_token"]
    """,
            id="run_pre_spawn_hook",
        ),
        param(
            """
    def run_auth_state_hook(self, state):
        self.environment["A"] = state["access_token"]
    """,
            id="run_auth_state_hook",
        ),
    ],
)
def test_a_spawner_of_the_admins_is_read_too(examine, request, method):
    name = request.node.callspec.id
    config = f"""{SOUND}
from jupyterhub.spawner import SimpleLocalProcessSpawner
from spawner_tokens import LocalTokenMixin
class Mine(LocalTokenMixin, SimpleLocalProcessSpawner):
    {method}
class Ours(Mine): pass
c.JupyterHub.spawner_class = Ours
"""
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "warning")
    assert found["id"] == "hook-writes-tokens" and found["what"].startswith(f"Mine.{name}, line ")
    (part,) = found["fix"]
    assert part["kind"] == "words" and part["text"].startswith(
        f"remove from Mine.{name} what sets A (line "
    )


def test_the_state_of_an_auth_state_hook_may_have_any_name(examine):
    hook = 'c.Spawner.auth_state_hook = lambda s, a: s.environment.update(K_TOKEN=a["kerb"])\n'
    assert "hook-writes-tokens" in of(examine(SOUND + hook)[1], "warning")


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
    text += "; first name TOKEN in the env of a spec, if servers need it"
    assert found["fix"] == [{"kind": "words", "text": text}]
