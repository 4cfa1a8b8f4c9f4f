"""A config is loaded as JupyterHub loads it, and one that does not load shows no secret."""

import json
import re

import pytest
from pytest import param

from spawner_tokens.__main__ import main

from ..support.examining import SOUND, find_one, of, run_command


def test_the_file_has_to_be_there(capsys):
    assert main(["doctor", "-f", "nowhere.py"]) == 1
    assert "there is no file nowhere.py" in capsys.readouterr().out


def test_subconfigs_are_loaded(examine, tmp_path):
    (tmp_path / "sub.py").write_text("c.Authenticator.enable_auth_state = False\n")
    _, findings = examine(SOUND + "print('hello')\nload_subconfig('sub.py')\n")
    assert of(findings, "error") == ["auth-state-off"]


def test_options_of_the_hubs_command_line_win(tmp_path, capsys):
    (tmp_path / "hub_config.py").write_text(SOUND)
    for options, id in (
        (["--Authenticator.enable_auth_state=False", "--debug"], "auth-state-off"),
        (["--JupyterHub.port=x"], "config-fails"),
        (["rest"], "config-fails"),
    ):
        assert main(["doctor", "-f", "hub_config.py", "--", *options]) == 1
        assert f"error    {id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, options",
    [
        param("c.Application.log_level = 10", ["--debug"], id="debug"),
        param("", ["--JupyterHub.port=the-port-secret"], id="bad-option"),
    ],
)
def test_what_traitlets_logs_of_a_config_is_not_printed(tmp_path, line, options):
    config = f'{SOUND}{line}\nc.CryptKeeper.keys = ["the-crypt-key"]\n'
    (tmp_path / "hub_config.py").write_text(config)
    done = run_command("doctor", "-f", "hub_config.py", "--", *options)
    text = done.stdout + done.stderr
    known = re.compile("the-[a-z]+-secret|rest-secret|the-crypt-key")
    assert "error: 1" in text and not known.findall(text)


SECRET = "s3cret-Value"


@pytest.mark.parametrize(
    "line, words",
    [
        param(f"raise ValueError('{SECRET}')", "ValueError, line", id="value"),
        param(f"{{}}['{SECRET}']", "KeyError, line", id="key"),
        param("x = SECRETabcd", "NameError, line", id="quotes-forgotten"),
        param("os.environ['hunter']", "KeyError, line", id="variable-unlike-a-name"),
        param("os.environ['GITHUB_CLIENT_ID']", "KeyError: 'GITHUB_CLIENT_ID', line", id="name"),
        param("raise ImportError(os.environ['MINE'])", "ImportError: …, line", id="import"),
        param("x = 1 +", "SyntaxError: invalid syntax", id="compiler"),
    ],
)
def test_the_text_of_an_error_is_shown_only_where_it_is_made_of_names(
    examine, monkeypatch, line, words
):
    monkeypatch.setenv("MINE", SECRET)
    monkeypatch.delenv("GITHUB_CLIENT_ID", raising=False)
    _, findings = examine(f"{SOUND}import os\n{line}\n")
    assert of(findings, "error") == ["config-fails"]
    text = json.dumps(findings, ensure_ascii=False)
    assert words in text
    assert not re.search(f"{SECRET}|SECRETabcd|hunter", text)


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()], ids=["text", "bytes"])
def test_what_a_class_raises_shows_no_secret(examine, secret):
    raised = f"""
from oauthenticator.gitlab import GitLabOAuthenticator
from traitlets import TraitError
class Mine(GitLabOAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        raise TraitError("not as it is: %s %s" % (self.client_id, {secret!r}))
c.JupyterHub.authenticator_class = Mine
c.Mine.api_tokens = [{secret!r}]
"""
    what = find_one(examine(SOUND + raised)[1], "config-fails")["what"]
    assert "not as it is: id" in what and SECRET not in what


def test_the_right_order_of_classes_is_shown(examine):
    order = """
from spawner_tokens import LocalTokenMixin
from jupyterhub.spawner import SimpleLocalProcessSpawner
class Mine(SimpleLocalProcessSpawner, LocalTokenMixin): pass
"""
    what = find_one(examine(SOUND + order)[1], "config-fails")["what"]
    assert "write class Mine(LocalTokenMixin, SimpleLocalProcessSpawner)" in what


LOGGING = {"handlers": {"f": {"class": "logging.FileHandler", "filename": "hub.log", "mode": "w"}}}


@pytest.mark.parametrize(
    "line, options",
    [
        param(f"c.Application.logging_config.update({LOGGING})", [], id="application"),
        param(
            "c.JupyterHub.extra_log_file = 'hub.log'\nc.JupyterHub.pid_file = 'hub.pid'\n"
            "c.JupyterHub.db_url = 'sqlite:///hub.sqlite'",
            [],
            id="extra",
        ),
        param("", [f"--JupyterHub.logging_config={LOGGING}"], id="option"),
    ],
)
def test_nothing_is_written_and_no_log_is_truncated(tmp_path, line, options):
    (tmp_path / "hub_config.py").write_text(f"{SOUND}{line}\n")
    (tmp_path / "hub.log").write_text("what the Hub has logged")
    assert main(["doctor", "-f", "hub_config.py", "--", *options]) == 0
    # there is no database
    assert main(["explain", "-f", "hub_config.py", "alice", "--", *options]) == 1
    assert (tmp_path / "hub.log").read_text() == "what the Hub has logged"
    assert {path.name for path in tmp_path.iterdir()} == {"hub_config.py", "hub.log"}
