"""What a spec may say, and what is said of one that is wrong."""

import json

import pytest
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.tokens.fields import SpecError
from spawner_tokens.tokens.files import make_env, make_programs_env
from spawner_tokens.tokens.selection import Token
from spawner_tokens.tokens.spec import parse_tokens


def parse(fields, name="gitlab", files=True):
    (spec,) = parse_tokens({name: fields}, files=files)
    return spec


@pytest.mark.parametrize(
    "fields, field, fix",
    [
        param({"envs": "T"}, ".envs", "did you mean 'env'", id="unknown-field"),
        param({"preset": "gitlob"}, ".preset", "did you mean 'gitlab'", id="unknown-preset"),
        param({"preset": ["gitlab"]}, ".preset", "did you mean 'gitlab'"),
        param({"preset": "nbgallery"}, ".url", "add it", id="preset-that-needs-a-url"),
        param({"preset": "gitlab", "url": "gitlab.example.org"}, ".url", "http(s)"),
        param({"preset": "gitlab", "url": "https://a:b@example.org"}, ".url", "without user"),
        param({"preset": "gitlab", "url": "https://example.org:port"}, ".url", "http(s)"),
        param({"preset": "gitlab", "url": "https://example.org\n"}, ".url", "http(s)"),
        param({"preset": "gitlab", "url": 5}, ".url", "as text", id="url-that-is-a-number"),
        param({"key": "refresh_token"}, ".key", "never leaves the Hub", id="refresh-token"),
        param({"key": "token_response.Refresh_Token"}, ".key", "never leaves the Hub"),
        param({"key": "refreshToken"}, ".key", "never leaves the Hub"),
        param({"env": "JUPYTER_TOKEN"}, ".env", "reserved", id="reserved-server-token"),
        param({"key": ""}, ".key", "dotted path", id="empty-key"),
        param({"key": 5}, ".key", "or a callable", id="key-that-is-a-number"),
        param({"env": "PATH"}, ".env", "choose another name", id="reserved-path"),
        param({"env": "JUPYTERHUB_API_TOKEN"}, ".env", "reserved", id="reserved-jupyterhub"),
        param({"env": "LD_PRELOAD"}, ".env", "reserved", id="reserved-loader"),
        param({"settings": {"PYTHONPATH": "/x"}}, ".settings", "reserved", id="reserved-setting"),
        param({"variables": {"HOME": "x"}}, ".variables", "reserved", id="reserved-variable"),
        param({"file_env": "SPAWNER_TOKENS_DIR"}, ".file_env", "reserved", id="reserved-own"),
        param({"env": "A-B"}, ".env", "letters, digits and '_'", id="variable-with-a-dash"),
        param({"env": "1A"}, ".env", "no digit first", id="variable-with-a-digit-first"),
        param({"env": {"A": 1}}, ".env", "a text or a list of texts", id="env-that-is-a-dict"),
        param({"env": ["A", ""]}, ".env", "a text or a list of texts", id="env-with-an-empty-name"),
        param({"env": "T", "file_env": "T"}, "", "claimed by this spec twice"),
        param({"file": "yes"}, ".file", "true or false", id="file-that-is-a-text"),
        param({"file_env": 1}, ".file_env", "or null for none", id="file-env-that-is-a-number"),
        param({"template": "x"}, ".template", "{token}", id="template-without-token"),
        param({"template": "{token}\0"}, ".template", "NUL", id="template-with-nul"),
        param({"variables": ["A"]}, ".variables", "a dict", id="variables-that-are-a-list"),
        param({"variables": {"A": 5}}, ".variables['A']", "dotted path"),
        param({"variables": {"A": "access_token"}}, ".variables['A']", "with env: A"),
        param({"variables": {"A": "x.refresh_token"}}, ".variables['A']", "never leaves"),
        param({"settings": {"A": 5}}, ".settings['A']", "quotes", id="setting-that-is-a-number"),
        param({"config": "x"}, ".config", "a dict of what JSON has", id="config-that-is-a-text"),
        param({"config": {"a": len}}, ".config", "what JSON has"),
        param({"config": {1: "x"}}, ".config", "what JSON has"),
        param({"config": {"a": float("nan")}}, ".config", "what JSON has", id="config-with-nan"),
        param({"config": {}, "file": False, "env": "T"}, ".config", "deliver one"),
        param({"config": {}, "config_env": 1}, ".config_env", "or null for none"),
        param({"config": {}, "config_env": "PATH"}, ".config_env", "reserved"),
        param({"config_env": "C"}, ".config_env", "add one", id="config-env-without-a-config"),
        param({"preset": "aws"}, ".settings['AWS_ROLE_ARN']", "add settings"),
        param(
            {"preset": "azure", "settings": {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": ""}},
            ".settings['AZURE_TENANT_ID']",
            "the preset azure needs it",
            id="setting-that-is-empty",
        ),
        param({"git": "gitlab.com"}, ".git", "http(s)", id="git-without-scheme"),
        param({"git": ["https://*.example.org"]}, ".git", "'*'", id="git-for-any-host"),
        param({"git": "https://me@example.org"}, ".git", "without user", id="git-with-a-user"),
        param({"git": {"a": 1}}, ".git", "a list of texts", id="git-that-is-a-dict"),
        param({"git_username": "a\nb"}, ".git_username", "one line"),
        param({"git_username": None}, ".git_username", "as text", id="git-user-name-that-is-null"),
        param({"git_identity": True}, ".git_identity", '"name"', id="identity-that-nobody-knows"),
        param({"git_identity": {"mail": "x"}}, ".git_identity", '"email"'),
        param({"git_identity": {"name": 5}}, ".git_identity['name']", "dotted path"),
        param({"git_identity": {"name": "x.id_token"}}, ".git_identity['name']", "is a token"),
        param({"missing": "ignore"}, ".missing", "refuse, warn, skip", id="unknown-policy"),
        param({"missing": ["warn"]}, ".missing", "refuse, warn, skip", id="policy-that-is-a-list"),
        param({"min_lifetime": -1}, ".min_lifetime", "0 or more", id="negative-seconds"),
        param({"min_lifetime": float("nan")}, ".min_lifetime", "0 or more", id="nan-seconds"),
        param({"env": "XPATHX", "settings": {"PATH": "/x"}}, ".settings", "reserved"),
        param({"min_lifetime": 10**5000}, ".min_lifetime", "0 or more", id="unprintable-seconds"),
        param({"min_lifetime": 10**400}, ".min_lifetime", "0 or more", id="huge-seconds"),
        param({"key": ".".join("a" * 5000)}, ".key", "100 parts", id="endless-key"),
        param({"min_lifetime": True}, ".min_lifetime", "0 or more", id="boolean-seconds"),
        param(
            {"required_scopes": ["read", "api"], "forbidden_scopes": "api"},
            ".required_scopes",
            "forbidden_scopes has api too",
            id="scope-both-required-and-forbidden",
        ),
        param({"required_scopes": 5}, ".required_scopes", "list of texts"),
        param({"file": False}, ".env", "nothing would be delivered", id="nothing-to-deliver"),
        param("access_token", "", "a dict of fields", id="spec-that-is-a-text"),
        param(None, "", "a dict of fields", id="spec-that-is-null"),
    ],
)
def test_a_wrong_spec_is_a_trait_error_that_names_entry_field_and_fix(fields, field, fix):
    config = Config()
    config.TokenSpawnerMixin.tokens = {"gitlab": fields}
    with pytest.raises(TraitError) as error:
        TokenSimpleLocalProcessSpawner(config=config)
    assert f"TokenSimpleLocalProcessSpawner.tokens['gitlab']{field}" in str(error.value)
    assert fix in str(error.value)


@pytest.mark.parametrize(
    "fields, path",
    [
        param({}, "T_TOKEN_FILE", id="default"),
        param({"preset": "wlcg"}, "BEARER_TOKEN_FILE", id="preset"),
        param({"env": "T", "file_env": "PATH_OF_T"}, "PATH_OF_T", id="given"),
        param({"env": "T", "file": False}, "T_TOKEN_FILE", id="no-file"),
    ],
)
def test_where_servers_ask_the_hub_a_token_needs_neither_variable_nor_file(fields, path):
    specs = parse_tokens({"t": fields}, files=False, pull=True)
    env = make_programs_env(specs, "https://h/api/")  # an admin's JUPYTERHUB_API_URL may end so
    assert env["SPAWNER_TOKENS_URL"] == "https://h/api/spawner-tokens"
    variables = {"env": [*specs[0].env], "file_env": path}
    assert json.loads(env["SPAWNER_TOKENS_VARIABLES"]) == {"t": variables}
    assert make_env([Token(specs[0], value="x")], "/d").keys() == {
        "SPAWNER_TOKENS_DIR",
        *specs[0].env,
    }


@pytest.mark.parametrize(
    "name",
    ["", "A", "a/b", "..", "a b", "-a", "a-", "é", "a" * 201, "a.json", "a.config", "a\n", 5],
)
def test_a_name_that_is_no_file_name_is_an_error_that_names_it(name):
    with pytest.raises(SpecError) as error:
        parse({}, name)
    assert repr(name) in str(error.value)


def test_two_tokens_that_claim_one_variable_are_an_error_that_names_both():
    with pytest.raises(SpecError) as error:
        parse_tokens({"one": {"env": "T"}, "two": {"settings": {"T": "x"}}}, files=True)
    assert "tokens['two']" in str(error.value) and "tokens['one'] too" in str(error.value)


def test_names_that_lead_to_one_file_variable_are_an_error():
    with pytest.raises(SpecError, match="A_B_TOKEN_FILE is claimed"):
        parse_tokens({"a-b": {}, "a.b": {}}, files=True)


def test_two_tokens_for_one_place_of_git_are_an_error_that_names_both():
    with pytest.raises(SpecError) as error:
        parse_tokens(
            {"one": {"git": "https://h.example/"}, "two": {"git": "https://h.example"}}, files=True
        )
    assert "tokens['two'].git" in str(
        error.value
    ) and "tokens['one'] for https://h.example already" in str(error.value)
