"""The doctor and hooks that write tokens into the environment, as they did before."""

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
                spawner.environment.update({"TOKEN": auth_state["access_token"]}, USER_EMAIL="")

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
    assert found["fix"] == [{"kind": "config", "text": "hub.config.KubeSpawner.pre_spawn_hook: null"}]
