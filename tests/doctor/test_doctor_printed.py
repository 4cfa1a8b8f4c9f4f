"""What the doctor prints can be run, and all of it together."""

import json
import math
import os
import re
import secrets
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pytest import param

from spawner_tokens.doctor.finding import literal
from spawner_tokens.doctor.loading import load_file

from ..support.examining import (  # noqa: F401
    GENERIC,
    KEY,
    SOUND,
    append,
    apply_all,
    examine,
    find_one,
    hubs_environment,
    login,
    of,
)


def test_the_lines_of_two_findings_go_together(examine):
    asked = 'scope = ["read_user", "read_repository"]'
    config = SOUND.replace(
        '"preset": "gitlab"', '"preset": "gitlab", "required_scopes": ["write_repository"]'
    )
    for scope in ("scope = []", 'scope = ["api", "openid"]'):
        broken = config.replace(asked, scope)
        _, findings = examine(broken)
        found = [finding for finding in findings if finding["level"] != "ok"]
        assert {finding["id"] for finding in found} == {"scopes-not-asked", "scopes-too-powerful"}
        for order in (found, found[::-1]):
            mended = broken
            for finding in order:
                mended = append(mended, finding["fix"])
            assert "scopes-not-asked" not in of(examine(mended)[1], "error")
        assert {finding["level"] for finding in examine(append(broken, found[1]["fix"]))[1]} == {
            "ok"
        }


CALLABLE = '{"x": {"key": "acess_token", "variables": {"A": lambda state: "a", "ME": "oauth_user.username"}}}'


def test_a_function_is_not_printed_and_not_lost(examine, tmp_path):
    plain = 'tokens = {"gitlab": {"preset": "gitlab"}}'
    added = SOUND.replace(plain, f"tokens.update({CALLABLE})")
    _, findings = examine(added)
    fixes = [part for finding in findings for part in finding["fix"]]
    assert {part["kind"] for part in fixes} == {"words"} and not re.search(
        "<function|0x", json.dumps(fixes)
    )
    assert (
        'set "key": "access_token"' in fixes[0]["text"]
        and '{"ME": "gitlab_user.username"}' in fixes[1]["text"]
    )
    assigned = SOUND.replace(plain, f"tokens = {CALLABLE}")
    mended = apply_all(assigned, examine(assigned)[1])
    assert {finding["level"] for finding in examine(mended)[1]} == {"ok"}
    (tmp_path / "mended.py").write_text(mended)
    assert callable(
        load_file(str(tmp_path / "mended.py")).TokenSpawnerMixin.tokens["x"]["variables"]["A"]
    )


def test_a_literal_is_read_as_the_same_value():
    for value in ["a\"'\n\x00é", None, True, 1, 1.5, ["a", {"b": [None]}], {"a"}, set()]:
        assert eval(literal(value)) == value
    for value in [len, object(), {"a": [lambda: 0]}, math.inf, math.nan, b"bytes"]:
        with pytest.raises(TypeError):
            literal(value)


@pytest.mark.parametrize(
    "key, asked, mended",
    [
        param("token", ["read_user"], "access_token", id="token"),
        param("gitlab_token", ["read_user"], "access_token", id="gitlab-token"),
        param("gitlab_token", ["read_user", "openid"], "access_token", id="gitlab-token-openid"),
        param("acces_token", ["read_user"], "access_token", id="misspelt"),
        param("id_tokn", ["read_user"], "access_token", id="id-token-not-asked"),
        param("id_tokn", ["read_user", "openid"], "id_token", id="id-token"),
    ],
)
def test_an_id_token_is_proposed_only_for_its_own_name(examine, key, asked, mended):
    config = SOUND.replace('"preset": "gitlab"', f'"key": "{key}"').replace(
        '["read_user", "read_repository"]', repr(asked)
    )
    found = find_one(examine(config)[1], "key-never-stored")
    assert found["fix"][0]["text"].endswith(f' = "{mended}"')


PLAIN = 'tokens = {"gitlab": {"preset": "gitlab"}}'
ASKED = '["read_user", "read_repository"]'
NEEDY = '{"x": {"key": "id_token", "required_scopes": ["write_repository"], "forbidden_scopes": ["sudo"]}}'
TWO_BAD = """{
    "x": {"key": "acess_token", "variables": {"ME": "oauth_user.username"}, "required_scopes": ["write_repository"]},
    "y": {"key": "nowhere", "variables": {"MYSELF": "oauth_user.name"}, "file_env": None},
}"""
ROLES = """
c.JupyterHub.load_roles = [
    {"name": "server", "scopes": ["inherit", "admin:auth_state!user"]},
    {"name": "user", "scopes": ["self", "admin:auth_state!user"]},
]
"""


@pytest.mark.parametrize(
    "config",
    [
        param(SOUND + ROLES, id="two-roles"),
        param(
            SOUND.replace(PLAIN, f"tokens = {NEEDY}").replace(ASKED, '["api", "sudo"]'), id="scopes"
        ),
        param(SOUND.replace(PLAIN, f"tokens = {NEEDY}").replace(ASKED, "[]"), id="no-scope"),
        param(
            GENERIC.replace('"openid", "email", "offline_access"', '"admin:all"').replace(
                '{"preset": "oidc"}', '{"key": "id_token", "required_scopes": ["email"]}'
            ),
            id="scopes-of-openid",
        ),
        param(
            login(
                "azuread",
                "azuread",
                ["admin:all"],
                'c.TokenSpawnerMixin.tokens["t"]["required_scopes"] = ["files"]',
            ),
            id="scopes-of-azure",
        ),
        param(SOUND.replace(PLAIN, f"tokens = {TWO_BAD}"), id="two-specs"),
        param(SOUND.replace(PLAIN, f"tokens.update({TWO_BAD})"), id="two-specs-that-are-added"),
        param(
            SOUND.replace(PLAIN, f"tokens = {TWO_BAD}").replace(ASKED, '["api"]') + ROLES, id="all"
        ),
        param(SOUND.replace(PLAIN, f"tokns = {NEEDY}"), id="misplaced"),
        param(SOUND.replace("TokenSpawnerMixin.", "TokensSpawnerMixin."), id="section-misplaced"),
    ],
)
def test_all_lines_together_leave_nothing_to_print(examine, config):
    _, findings = examine(config)
    assert [part for finding in findings for part in finding["fix"]]
    mended = apply_all(config, findings)
    if "tokns" in config:  # what was not read is examined when it is
        mended = apply_all(mended, examine(mended)[1])
    _, left = examine(mended)
    assert [
        finding for finding in left if "config" in [part["kind"] for part in finding["fix"]]
    ] == []
    assert "spec-wrong" not in of(left, "error")


@pytest.mark.parametrize(
    "more, level",
    [
        param("", "warning", id="alone"),
        param('c.Spawner.server_token_scopes = ["inherit"]\n', "error", id="server-token-scopes"),
        param(
            'c.JupyterHub.load_roles += [{"name": "server", "scopes": ["inherit"]}]\n',
            "error",
            id="role-server",
        ),
        param(
            'c.JupyterHub.load_roles += [{"name": "server", "scopes": ["self"]}]\n',
            "warning",
            id="other-role-server",
        ),
    ],
)
def test_what_a_user_may_read_is_an_error_where_servers_may_too(examine, more, level):
    roles = 'c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "admin:auth_state!user"]}]\n'
    config = SOUND + roles + more
    _, findings = examine(config)
    assert "servers-read-auth-state" in of(findings, level)
    left = examine(apply_all(config, findings))[1]
    assert of(left, "error") == [] and set(of(left, "warning")) <= {"servers-inherit"}


@pytest.mark.parametrize("config", [SOUND, GENERIC], ids=["gitlab", "generic"])
def test_nothing_is_said_of_a_sound_config(examine, config):
    status, findings = examine(config)
    assert status == 0
    assert {finding["level"] for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize("key, id", [("", "crypt-key-missing"), ("tooshort", "crypt-key-bad")])
def test_the_printed_command_makes_a_crypt_key(examine, monkeypatch, key, id):
    monkeypatch.setenv(KEY, key)
    status, findings = examine(SOUND)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == id
    assert not key or key not in json.dumps(findings)
    (part,) = found["fix"]
    assert part["kind"] == "shell"
    printed = subprocess.run(
        ["sh", "-c", f"{part['text']}\necho ${KEY}"], capture_output=True, text=True, check=True
    )
    monkeypatch.setenv(KEY, printed.stdout.strip())
    assert examine(SOUND)[0] == 0


def test_of_several_crypt_keys_only_the_bad_one_is_to_be_removed(examine, monkeypatch):
    good, bad = secrets.token_hex(32), "not-a-key-at-all"
    monkeypatch.setenv(KEY, f"{good};{bad}")
    (found,) = (finding for finding in examine(SOUND)[1] if finding["level"] == "error")
    text = f"remove the bad one from {KEY}, number 2 of 2, and keep what is good"
    assert found["id"] == "crypt-key-bad" and found["fix"] == [{"kind": "words", "text": text}]
    (found,) = (
        finding
        for finding in examine(f"{SOUND}c.CryptKeeper.keys = {[bad, good]}\n")[1]
        if finding["fix"]
    )
    text = "remove the bad one from c.CryptKeeper.keys, number 1 of 2, and keep what is good"
    assert found["id"] == "crypt-key-bad" and found["fix"] == [{"kind": "words", "text": text}]


OLD = [
    ("oauthenticator", "17.2.0", "17.3"),
    ("jupyterhub-kubespawner", "6.2.0", "7.0"),
    ("dockerspawner", "13.0.0", "14.0"),
]


@pytest.mark.parametrize("package, installed, oldest", OLD)
def test_what_is_too_old_is_named(examine, monkeypatch, tmp_path, package, installed, oldest):
    site = tmp_path / "site"
    metadata = site / f"{package.replace('-', '_')}-{installed}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {installed}\n")
    entry_points = metadata.with_name("entry_points.txt")
    entry_points.write_text(distribution(package).read_text("entry_points.txt") or "")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(site)
        status, findings = examine(SOUND)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == "version-too-old"
    assert found["fix"] == [{"kind": "shell", "text": f"pip install '{package}>={oldest}'"}]
    assert "version-too-old" not in [finding["id"] for finding in examine(SOUND)[1]]


def test_an_import_beside_a_jupyterhub_that_is_too_old_says_so(tmp_path):
    (tmp_path / "jupyterhub").mkdir()
    (tmp_path / "jupyterhub" / "__init__.py").write_text(
        "__version__, version_info = '4.1.6', (4, 1, 6, '', '')\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    done = subprocess.run(
        [sys.executable, "-m", "spawner_tokens", "doctor"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ImportError: spawner_tokens needs jupyterhub>=5.0; 4.1.6 is installed\n"
    )
