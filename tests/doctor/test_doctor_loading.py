"""The doctor loads a config as JupyterHub does, and tells no secret of one that does not load."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from pytest import param

from spawner_tokens.__main__ import main

from ..support.examining import SOUND, examine, find_one, hubs_environment, login, of  # noqa: F401


def test_the_file_has_to_be_there(capsys):
    assert main(["doctor", "-f", "nowhere.py"]) == 1
    assert "there is no file nowhere.py" in capsys.readouterr().out


def test_subconfigs_are_loaded_and_what_is_printed_goes_to_stderr(examine, tmp_path):
    (tmp_path / "sub.py").write_text("c.Authenticator.enable_auth_state = False\n")
    status, findings = examine(SOUND + "print('hello')\nload_subconfig('sub.py')\n")
    assert of(findings, "error") == ["auth-state-off"]


def test_options_of_the_hubs_command_line_win(tmp_path, capsys):
    (tmp_path / "hub_config.py").write_text(SOUND)
    assert (
        main(
            [
                "doctor",
                "-f",
                "hub_config.py",
                "--",
                "--Authenticator.enable_auth_state=False",
                "--debug",
            ]
        )
        == 1
    )
    assert "error    auth-state-off" in capsys.readouterr().out
    for options in (["--JupyterHub.port=x"], ["rest"]):
        assert main(["doctor", "-f", "hub_config.py", "--", *options]) == 1
        assert "config-fails" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, options",
    [
        param('c.JupyterHub.log_level = "DEBUG"', [], id="hub"),
        param("c.Application.log_level = 10", [], id="application"),
        param("", ["--debug"], id="option"),
        param(
            "",
            ["--JupyterHub.cookie_secret=the-cookie-secret", "--JupyterHub.port=the-port-secret"],
            id="bad-option",
        ),
        param(
            "", ["--GitLabOAuthenticator.client_secret=the-cookie-secret", "rest-secret"], id="rest"
        ),
    ],
)
def test_what_traitlets_logs_of_a_config_is_not_heard(tmp_path, line, options):
    (tmp_path / "hub_config.py").write_text(
        f'{SOUND}{line}\nc.CryptKeeper.keys = ["the-crypt-key"]\n'
    )
    command = [
        sys.executable,
        "-m",
        "spawner_tokens",
        "doctor",
        "-f",
        "hub_config.py",
        "--",
        *options,
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    text = done.stdout + done.stderr
    known = re.compile("the-[a-z]+-secret|rest-secret|the-crypt-key")
    assert " ok\n" in text and not known.findall(text)
    # what is looked for is what traitlets shows
    (tmp_path / "shown.py").write_text(
        "from jupyterhub.app import JupyterHub\nfrom traitlets.config import Config\nc = Config()\n"
        + (tmp_path / "hub_config.py").read_text()
        + "c.JupyterHub.log_level = 10\nJupyterHub(config=c)\n"
    )
    shown = subprocess.run(
        [sys.executable, "shown.py"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert {"the-client-secret", "the-crypt-key"} <= {*known.findall(shown.stdout + shown.stderr)}


def test_a_level_that_is_none_is_an_error(examine):
    assert of(examine(SOUND + 'c.JupyterHub.log_level = "DEBG"\n')[1], "error") == ["hub-fails"]


@pytest.mark.parametrize("base", ["SimpleLocalProcessSpawner", "GitLabOAuthenticator"])
def test_what_classes_print_is_not_between_the_findings(examine, base):
    config = dedent(
        f"""
        from oauthenticator.gitlab import GitLabOAuthenticator
        from spawner_tokens import TokenSimpleLocalProcessSpawner as SimpleLocalProcessSpawner
        class Mine({base}):
            def __init__(self, *arguments, **given):
                print("hello")
                super().__init__(*arguments, **given)
        c.JupyterHub.{"spawner" if "Spawner" in base else "authenticator"}_class = Mine
        """
    )
    assert {finding["level"] for finding in examine(SOUND + config)[1]} == {"ok"}


SECRET = "s3cret-Value"


@pytest.mark.parametrize(
    "line, words",
    [
        param(f"raise ValueError('{SECRET}')", "ValueError, line", id="value"),
        param(f"raise AttributeError('{SECRET}')", "AttributeError, line", id="attribute"),
        param(f"raise SyntaxError('{SECRET}')", "SyntaxError, line", id="syntax"),
        param(f"open('{SECRET}')", "FileNotFoundError, line", id="file"),
        param(f"{{}}['{SECRET}']", "KeyError, line", id="key"),
        param("x = SECRETabcd", "NameError, line", id="quotes-forgotten"),
        param("x = hunter", "NameError, line", id="quotes-of-a-word-forgotten"),
        param("{}['SECRETabcd']", "KeyError, line", id="key-like-a-name"),
        param(
            "__import__('jupyterhub.user').user.UserDict(None, {})[('hunter',)]",
            "KeyError, line",
            id="key-of-the-hub",
        ),
        param("os.environ['hunter']", "KeyError, line", id="variable-like-no-name"),
        param(
            "{}[os.environ['MINE'].replace('-', '_')]",
            "KeyError, line",
            id="key-of-the-environment",
        ),
        param("os.environ['GITHUB_CLIENT_ID']", "KeyError: 'GITHUB_CLIENT_ID', line", id="name"),
        param("raise ImportError(os.environ['MINE'])", "ImportError: …, line", id="import"),
        param("x = 1 +", "SyntaxError: invalid syntax", id="compiler"),
    ],
)
def test_a_text_is_shown_only_where_it_is_made_of_names(examine, monkeypatch, line, words):
    monkeypatch.setenv("MINE", SECRET)
    monkeypatch.delenv("GITHUB_CLIENT_ID", raising=False)
    _, findings = examine(f"{SOUND}import os\n{line}\n")
    text = json.dumps(findings, ensure_ascii=False)
    assert words in text
    assert not [
        value
        for value in (SECRET, SECRET.replace("-", "_"), "SECRETabcd", "hunter")
        if value in text
    ]


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()], ids=["text", "bytes"])
def test_what_a_class_raises_shows_no_secret(examine, secret):
    raised = dedent(
        f"""
        from oauthenticator.gitlab import GitLabOAuthenticator
        class Mine(GitLabOAuthenticator):
            def __init__(self, **given):
                super().__init__(**given)
                raise TraitError("not as it is: %s %s" % (self.client_id, {secret!r}))
        from traitlets import TraitError
        c.JupyterHub.authenticator_class = Mine
        c.Mine.api_tokens = [{secret!r}]
        """
    )
    found = find_one(examine(SOUND + raised)[1], "authenticator-fails")
    assert "not as it is: id" in found["what"] and SECRET not in found["what"]
    (found,) = (
        finding
        for finding in examine(SOUND + raised.replace("TraitError(", "ValueError("))[1]
        if finding["fix"]
    )
    assert "ValueError, line" in found["what"] and "not as it is" not in found["what"]


def test_tokens_of_several_files_add_up(examine):
    more = 'c.TokenSpawnerMixin.tokens.update({"other": {"key": "refresh_token"}})\n'
    assert of(examine(SOUND + more)[1], "error") == ["spec-wrong"]
    lazy = SOUND.replace('c.TokenSpawnerMixin.tokens = {"gitlab": {"preset": "gitlab"}}', more)
    assert of(examine(lazy)[1], "error") == ["spec-wrong"]


def test_what_a_class_needs_is_named(examine, monkeypatch):
    for module in ("spawner_tokens.backends.docker.spawner", "dockerspawner"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without("dockerspawner"), *sys.meta_path])
    for name in ("tokens-docker", "spawner_tokens.TokenDockerSpawner"):
        status, (found,) = examine(SOUND.replace("tokens-simple", name))
        assert (
            found["id"] == "class-unknown"
            and "TokenDockerSpawner needs more packages" in found["what"]
        )
        assert found["fix"] == [{"kind": "words", "text": "pip install 'spawner_tokens[docker]'"}]


class Without:
    """An importer to which a package is not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_no_value_of_a_wrong_setting_is_shown(examine):
    status, findings = examine(
        SOUND + 'c.GitLabOAuthenticator.client_secret = ["the-client-secret"]\n'
    )
    assert status == 1 and of(findings, "error") == ["authenticator-fails"]


def test_nothing_is_started_and_nothing_is_written(examine, tmp_path):
    examine(SOUND + f"c.JupyterHub.db_url = 'sqlite:///{tmp_path}/hub.sqlite'\n")
    assert [path.name for path in tmp_path.iterdir()] == ["hub_config.py"]


LOGGING = {"handlers": {"f": {"class": "logging.FileHandler", "filename": "hub.log", "mode": "w"}}}


@pytest.mark.parametrize(
    "line, options",
    [
        param(f"c.JupyterHub.logging_config = {LOGGING}", [], id="hub"),
        param(f"c.Application.logging_config.update({LOGGING})", [], id="application"),
        param(f"c.SingletonConfigurable.logging_config = {LOGGING}", [], id="base"),
        param(
            "c.JupyterHub.extra_log_file = 'hub.log'\nc.JupyterHub.pid_file = 'hub.pid'",
            [],
            id="extra",
        ),
        param("", [f"--JupyterHub.logging_config={LOGGING}"], id="option"),
    ],
)
def test_no_log_file_is_made_or_truncated(tmp_path, line, options):
    (tmp_path / "hub_config.py").write_text(f"{SOUND}{line}\n")
    (tmp_path / "hub.log").write_text("what the Hub has logged")
    assert main(["doctor", "-f", "hub_config.py", "--", *options]) == 0
    assert (
        main(["explain", "-f", "hub_config.py", "alice", "--", *options]) == 1
    )  # there is no database
    assert (tmp_path / "hub.log").read_text() == "what the Hub has logged"
    assert {path.name for path in tmp_path.iterdir()} == {"hub_config.py", "hub.log"}


def test_bitbucket_grants_what_its_consumer_has(examine):
    more = 'c.TokenSpawnerMixin.tokens["t"]["required_scopes"] = ["repository"]'
    assert of(examine(login("bitbucket", "bitbucket", more=more))[1], "error") == []
    assert of(examine(login("bitbucket", "bitbucket", ["account"], more))[1], "error") == [
        "scopes-not-asked"
    ]


def test_of_a_strangers_authenticator_nothing_is_claimed(examine):
    own = dedent(
        """
        from jupyterhub.auth import Authenticator
        class Mine(Authenticator):
            pass
        c.JupyterHub.authenticator_class = Mine
        """
    )
    status, findings = examine(SOUND + own)
    assert status == 0 and not {"authenticator", "keys", "scopes"} & {
        finding["id"] for finding in findings
    }


def test_a_check_that_fails_is_no_traceback(examine):
    broken = dedent(
        """
        from spawner_tokens import TokenSimpleLocalProcessSpawner
        class Mine(TokenSimpleLocalProcessSpawner):
            delivery_delay = property(lambda self: print("hello") or 1 / 0)
        c.JupyterHub.spawner_class = Mine
        """
    )
    status, findings = examine(SOUND + broken)
    assert status == 0 and of(findings, "warning") == ["lifetime"]
    assert "ZeroDivisionError" in json.dumps(findings) and "servers-scopes" in of(findings, "ok")
