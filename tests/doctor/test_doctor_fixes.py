"""What the doctor proposes fits what it found: nothing that is far from it, and nothing that was right."""

import os
import secrets

import pytest
from pytest import param

from ..project.test_readme import values_files
from ..support.examining import (  # noqa: F401
    DOCKER,
    KEY,
    SOUND,
    VERBS,
    append,
    cluster,
    examine,
    find_one,
    hubs_environment,
    of,
    serve,
)


@pytest.mark.parametrize("threads", ['"many"', "0", "-1", "None"])
def test_a_wrong_number_of_threads_leaves_the_key_alone(examine, threads):  # noqa: F811
    key = secrets.token_hex(32)
    config = f'{SOUND}c.CryptKeeper.keys = ["{key}"]\nc.CryptKeeper.n_threads = {threads}\n'
    status, findings = examine(config)
    (found,) = (finding for finding in findings if finding["level"] != "ok")
    assert status == 1 and found["id"] == "crypt-key-bad" and "n_threads" in found["what"]
    assert {finding["level"] for finding in examine(append(config, found["fix"]))[1]} == {"ok"}
    # and the key is looked at
    (*_, found) = (
        each for each in examine(config.replace(key, "short"))[1] if each["id"] == "crypt-key-bad"
    )
    assert {"kind": "config", "text": "del c.CryptKeeper.keys"} in found["fix"]


def test_a_number_of_threads_is_a_number(examine, monkeypatch):  # noqa: F811
    monkeypatch.delenv(KEY)
    assert of(examine(f"{SOUND}c.CryptKeeper.n_threads = 2\n")[1], "error") == ["crypt-key-missing"]


def test_a_wrong_number_of_threads_is_found_in_values_too(examine, cluster):  # noqa: F811
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    broken = text.replace(
        "    JupyterHub:", "    CryptKeeper: {n_threads: many}\n    JupyterHub:", 1
    )
    assert broken != text
    _, findings = examine(broken, "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert found["fix"][0]["text"].startswith("hub.config.CryptKeeper.n_threads: 1")


@pytest.mark.parametrize(
    "tls",
    [
        param('{"client_cert": ("nowhere.pem", "nowhere.key")}', id="no-files"),
        param('{"client_cert": "cert.pem"}', id="no-pair"),
        param('{"ca": "cert.pem"}', id="no-such-name"),
        param('{"verify": True, "ca_cert": "nowhere.pem"}', id="no-ca"),
        param('{"verify": True, "ca_cert": "cert.pem"}', id="no-certificate"),
        param('{"verify": False}', id="no-tls-there"),
    ],
)
def test_a_wrong_tls_config_of_docker_is_named(examine, monkeypatch, serve, tmp_path, tls):  # noqa: F811
    (tmp_path / "cert.pem").write_text("none")
    engine = serve(lambda path, body: "OK" if path.endswith("_ping") else {"ApiVersion": "1.41"})
    monkeypatch.setenv("DOCKER_HOST", engine.replace("http", "tcp"))
    assert of(examine(DOCKER)[1], "error") == []
    for section in ("DockerSpawner", "TokenDockerSpawner"):
        _, findings = examine(f"{DOCKER}c.{section}.tls_config = {tls}\n")
        (found,) = (finding for finding in findings if finding["level"] == "error")
        assert (
            found["id"] == "docker-unreachable"
            and f"c.{section}.tls_config" in found["fix"][0]["text"]
        )


def test_where_no_tls_is_set_none_is_looked_at(examine):  # noqa: F811
    (found,) = (finding for finding in examine(DOCKER)[1] if finding["level"] == "error")
    assert found["id"] == "docker-unreachable" and "tls_config" not in str(found["fix"])


def test_the_engine_is_asked_as_dockerspawner_asks_it(examine, monkeypatch, serve):  # noqa: F811
    """The environment wins over tls_config, and client_kwargs over both."""
    engine = serve(lambda path, body: "OK" if path.endswith("_ping") else {"ApiVersion": "1.41"})
    more = f'c.DockerSpawner.client_kwargs = {{"base_url": "{engine.replace("http", "tcp")}", "tls": False}}\n'
    wrong = f'c.DockerSpawner.tls_config = {{"verify": True, "ca_cert": "{os.path.abspath(__file__)}"}}\n'
    assert of(examine(DOCKER + wrong + more)[1], "error") == []


@pytest.mark.parametrize(
    "trait, name, near",
    [
        param("authenticator_class", "gitlub", "gitlab", id="misspelt"),
        param("authenticator_class", "GitHub-OAuth", "github", id="with-more-words"),
        param("spawner_class", "tokens-kube", "tokens-kubespawner", id="shortened"),
        param("authenticator_class", "zzz", None, id="nothing-in-common"),
        param("authenticator_class", "keycloak", None, id="a-provider-without-a-class"),
        param("spawner_class", "x", None, id="a-letter"),
    ],
)
def test_a_class_is_proposed_only_if_its_name_is_near(examine, trait, name, near):  # noqa: F811
    status, (found,) = examine(f'{SOUND}c.JupyterHub.{trait} = "{name}"\n')
    (part,) = found["fix"]
    assert status == 1 and found["id"] == "class-unknown"
    if near:
        assert part == {"kind": "config", "text": f'c.JupyterHub.{trait} = "{near}"'}
    else:
        known = {"authenticator_class": "generic-oauth", "spawner_class": "tokens-simple"}[trait]
        assert part["kind"] == "words" and known in part["text"].removeprefix(
            "name one of these: "
        ).split(", ")


def test_a_key_of_something_else_is_not_taken_for_the_logins_token(examine):  # noqa: F811
    config = SOUND.replace(
        '{"gitlab": {"preset": "gitlab"}}', '{"aws": {"key": "aws.token", "env": "AWS_TOKEN"}}'
    )
    found = find_one(examine(config)[1], "key-never-stored")
    assert [part["kind"] for part in found["fix"]] == ["words"] and "access_token" in found["fix"][
        0
    ]["text"]


def test_the_order_of_a_mixin_in_a_module_is_found(examine, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "order_in_a_module.py").write_text(
        "from jupyterhub.spawner import SimpleLocalProcessSpawner\nfrom spawner_tokens import LocalTokenMixin\n"
        "class Mine(SimpleLocalProcessSpawner, LocalTokenMixin): pass\n"
    )
    status, (found,) = examine(SOUND + 'c.JupyterHub.spawner_class = "order_in_a_module.Mine"\n')
    assert status == 1 and found["id"] == "mixin-order"
    assert found["fix"] == [
        {"kind": "words", "text": "write class Mine(LocalTokenMixin, SimpleLocalProcessSpawner)"}
    ]


@pytest.mark.parametrize(
    "code, words",
    [
        param(
            """
from dockerspawner import DockerSpawner as Stock
class DockerSpawner(Stock):
    def start(self): return super().start()
c.JupyterHub.spawner_class = DockerSpawner
""",
            "write class DockerSpawner(DockerTokenMixin, …), after from spawner_tokens import DockerTokenMixin",
            id="named-as-the-stock-one",
        ),
        param(
            """
from pathlib import Path
Path("sub.py").write_text(
    "from jupyterhub.spawner import LocalProcessSpawner\\nclass Mine(LocalProcessSpawner): pass\\n"
    "c.JupyterHub.spawner_class = Mine\\n"
)
load_subconfig("sub.py")
""",
            "write class Mine(LocalTokenMixin, …), after from spawner_tokens import LocalTokenMixin",
            id="of-another-file",
        ),
        param(
            """
def make():
    from jupyterhub.spawner import LocalProcessSpawner
    class Mine(LocalProcessSpawner): pass
    return Mine
c.JupyterHub.spawner_class = make()
""",
            "write class Mine(LocalTokenMixin, …), after from spawner_tokens import LocalTokenMixin",
            id="of-a-function",
        ),
    ],
)
def test_a_class_of_the_config_itself_is_not_dropped(examine, code, words):  # noqa: F811
    found = find_one(examine(SOUND + code)[1], "mixin-missing")
    assert found["fix"] == [{"kind": "words", "text": words}]


def test_a_class_of_a_module_is_kept(examine, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.syspath_prepend(tmp_path)
    code = "from jupyterhub.spawner import LocalProcessSpawner as Base\nclass Mine(Base): pass\n"
    (tmp_path / "spawner_of_mine.py").write_text(code)
    config = SOUND + 'c.JupyterHub.spawner_class = "spawner_of_mine.Mine"\n'
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "error")
    assert {finding["level"] for finding in examine(append(config, found["fix"]))[1]} == {"ok"}


@pytest.mark.parametrize(
    "code",
    [
        param(
            """
from oauthenticator.gitlab import GitLabOAuthenticator
class TokenGitLabAuthenticator(GitLabOAuthenticator): pass
c.JupyterHub.authenticator_class = TokenGitLabAuthenticator
c.TokenGitLabAuthenticator.client_secret = "the-client-secret"
""",
            id="authenticator",
        ),
        param(
            """
from jupyterhub.proxy import ConfigurableHTTPProxy
class TokenProxy(ConfigurableHTTPProxy): pass
c.JupyterHub.proxy_class = TokenProxy
c.TokenProxy.debug = True
""",
            id="proxy",
        ),
        param('c.JSONWebTokenAuthenticator.secret = "the-client-secret"\n', id="somebody-elses"),
        param("c.TokenSpawnerMixin.start_timeout = 60\n", id="spawners-trait"),
    ],
)
def test_a_section_of_another_class_is_left_alone(examine, code):  # noqa: F811
    assert {finding["level"] for finding in examine(SOUND + code)[1]} == {"ok"}


@pytest.mark.parametrize(
    "code, id, words",
    [
        param(
            'c.TokensSpawnerMixin.tokens = {"bad": {"preset": "github"}}',
            "section-unknown",
            "move what servers need of it to c.TokenSpawnerMixin, and remove the rest",
            id="both-sections",
        ),
        param(
            'c.TokenMixin.tokens = {"bad": {"preset": "github"}}',
            "section-unknown",
            "move what servers need of it to c.LocalTokenMixin, and remove the rest",
            id="another-section",
        ),
        param(
            "c.TokensSpawnerMixin.token_refuse = []\nc.TokenSpawnMixin.token_refuse = []",
            "section-unknown",
            "move what servers need of it to c.TokenSpawnerMixin, and remove the rest",
            id="two-wrong-sections",
        ),
        param(
            'c.TokenSpawnerMixin.tokns = {"bad": {"preset": "github"}}',
            "trait-unknown",
            "remove it, or what sets c.TokenSpawnerMixin.tokens",
            id="both-traits",
        ),
        param(
            "c.TokenSpawnerMixin.zzz = 1",
            "trait-unknown",
            "remove it: nothing that can be set has a name like that",
            id="no-near-trait",
        ),
    ],
)
def test_nothing_that_is_set_is_overwritten(examine, code, id, words):  # noqa: F811
    found = [finding for finding in examine(f"{SOUND}{code}\n")[1] if finding["level"] != "ok"]
    assert found and {finding["id"] for finding in found} == {id}
    assert [finding["fix"] for finding in found] == [[{"kind": "words", "text": words}]] * len(
        found
    )
