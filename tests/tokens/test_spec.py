"""What a spec may say, and what is said of one that is wrong."""

import pytest
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import LocalTokenMixin, TokenSimpleLocalProcessSpawner, TokenSpawnerMixin
from spawner_tokens.tokens.fields import SpecError
from spawner_tokens.tokens.presets import PROVIDERS
from spawner_tokens.tokens.spec import parse_tokens


def parse(fields, name="gitlab", files=True):
    (spec,) = parse_tokens({name: fields}, files=files)
    return spec


@pytest.mark.parametrize(
    "fields, field, fix",
    [
        param({"envs": "T"}, ".envs", "did you mean 'env'", id="unknown-field"),
        param({"preset": "gitlob"}, ".preset", "did you mean 'gitlab'", id="unknown-preset"),
        param(
            {"preset": ["gitlab"]}, ".preset", "did you mean 'gitlab'", id="preset-that-is-a-list"
        ),
        param({"preset": "nbgallery"}, ".url", "add it", id="preset-that-needs-a-url"),
        param(
            {"preset": "gitlab", "url": "gitlab.example.org"},
            ".url",
            "http(s)",
            id="url-without-scheme",
        ),
        param(
            {"preset": "gitlab", "url": "https://a:b@example.org"},
            ".url",
            "without user",
            id="url-with-password",
        ),
        param(
            {"preset": "gitlab", "url": "https://example.org:port"},
            ".url",
            "http(s)",
            id="url-with-a-bad-port",
        ),
        param(
            {"preset": "gitlab", "url": "https://example.org\n"},
            ".url",
            "http(s)",
            id="url-with-a-newline",
        ),
        param({"preset": "gitlab", "url": 5}, ".url", "as text", id="url-that-is-a-number"),
        param({"key": "refresh_token"}, ".key", "never leaves the Hub", id="refresh-token"),
        param(
            {"key": "token_response.Refresh_Token"},
            ".key",
            "never leaves the Hub",
            id="refresh-token-within",
        ),
        param(
            {"key": "refreshToken"},
            ".key",
            "never leaves the Hub",
            id="refresh-token-in-camel-case",
        ),
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
        param(
            {"env": "T", "file_env": "T"}, "", "claimed by this spec twice", id="one-variable-twice"
        ),
        param({"file": "yes"}, ".file", "true or false", id="file-that-is-a-text"),
        param({"file_env": 1}, ".file_env", "or null for none", id="file-env-that-is-a-number"),
        param({"template": "x"}, ".template", "{token}", id="template-without-token"),
        param({"template": "{token}\0"}, ".template", "NUL", id="template-with-nul"),
        param({"variables": ["A"]}, ".variables", "a dict", id="variables-that-are-a-list"),
        param(
            {"variables": {"A": 5}}, ".variables['A']", "dotted path", id="variable-from-a-number"
        ),
        param(
            {"variables": {"A": "access_token"}},
            ".variables['A']",
            "with env: A",
            id="token-as-companion",
        ),
        param(
            {"variables": {"A": "x.refresh_token"}},
            ".variables['A']",
            "never leaves",
            id="refresh-as-companion",
        ),
        param({"settings": {"A": 5}}, ".settings['A']", "quotes", id="setting-that-is-a-number"),
        param({"config": "x"}, ".config", "a dict of what JSON has", id="config-that-is-a-text"),
        param(
            {"config": {"a": len}}, ".config", "what JSON has", id="config-that-json-cannot-write"
        ),
        param(
            {"config": {1: "x"}}, ".config", "what JSON has", id="config-with-a-number-as-a-name"
        ),
        param({"config": {"a": float("nan")}}, ".config", "what JSON has", id="config-with-nan"),
        param(
            {"config": {}, "file": False, "env": "T"},
            ".config",
            "deliver one",
            id="config-without-a-file",
        ),
        param(
            {"config": {}, "config_env": 1},
            ".config_env",
            "or null for none",
            id="config-env-that-is-a-number",
        ),
        param(
            {"config": {}, "config_env": "PATH"},
            ".config_env",
            "reserved",
            id="reserved-config-env",
        ),
        param({"config_env": "C"}, ".config_env", "add one", id="config-env-without-a-config"),
        param(
            {"preset": "aws"},
            ".settings['AWS_ROLE_ARN']",
            "add settings",
            id="preset-that-needs-a-setting",
        ),
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
        param(
            {"git_username": "a\nb"}, ".git_username", "one line", id="git-user-name-of-two-lines"
        ),
        param({"git_username": None}, ".git_username", "as text", id="git-user-name-that-is-null"),
        param({"git_identity": True}, ".git_identity", '"name"', id="identity-that-nobody-knows"),
        param(
            {"git_identity": {"mail": "x"}},
            ".git_identity",
            '"email"',
            id="identity-with-another-key",
        ),
        param(
            {"git_identity": {"name": 5}},
            ".git_identity['name']",
            "dotted path",
            id="identity-from-a-number",
        ),
        param(
            {"git_identity": {"name": "x.id_token"}},
            ".git_identity['name']",
            "is a token",
            id="token-as-identity",
        ),
        param({"missing": "ignore"}, ".missing", "refuse, warn, skip", id="unknown-policy"),
        param({"missing": ["warn"]}, ".missing", "refuse, warn, skip", id="policy-that-is-a-list"),
        param({"min_lifetime": -1}, ".min_lifetime", "0 or more", id="negative-seconds"),
        param({"min_lifetime": float("nan")}, ".min_lifetime", "0 or more", id="nan-seconds"),
        param(
            {"env": "XPATHX", "settings": {"PATH": "/x"}},
            ".settings",
            "reserved",
            id="the-right-field-is-named",
        ),
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
        param(
            {"required_scopes": 5},
            ".required_scopes",
            "list of texts",
            id="scopes-that-are-a-number",
        ),
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


def test_git_follows_the_url_unless_told_otherwise():
    url = "https://gitlab.example.org/lab"
    assert parse({"preset": "gitlab", "url": url}).git == (url,)
    assert parse({"preset": "gitlab", "git": ["https://a.example", "https://b.example/"]}).git == (
        "https://a.example",
        "https://b.example",
    )
    assert parse({"preset": "gitlab", "git": None}).git == parse({}).git == ()
    assert parse({"preset": "gitlab", "template": "Bearer {token}"}).git == ()  # no password


def test_an_identity_can_be_left_to_the_preset_or_left_out():
    known = PROVIDERS["gitlab"]["git_identity"]
    assert (
        parse({"preset": "gitlab"}).git_identity
        == parse({"preset": "gitlab", "git_identity": True}).git_identity
    )
    assert parse({"preset": "gitlab"}).git_identity == known
    assert parse({"preset": "gitlab", "git_identity": False}).git_identity == {}
    assert parse({"preset": "gitlab", "git_identity": {"name": "x"}}).git_identity == {"name": "x"}


def test_a_spec_says_little_by_default():
    spec = parse({}, "my-token")
    assert (spec.key, spec.env, spec.file, spec.file_env) == (
        "access_token",
        (),
        True,
        "MY_TOKEN_TOKEN_FILE",
    )
    assert (spec.template, spec.missing, spec.min_lifetime) == ("{token}", None, None)


def test_null_stands_for_none_of_it():
    spec = parse(
        {"preset": "github", "env": None, "variables": None, "settings": None, "file_env": None}
    )
    assert spec.claims == []


def test_a_single_null_leaves_out_a_variable():
    spec = parse({"variables": {"A": "x.a", "B": None}, "settings": {"C": None}})
    assert spec.claims == ["GITLAB_TOKEN_FILE", "A"]


def test_a_field_of_the_spec_wins_over_its_preset():
    spec = parse({"preset": "gitlab", "env": "MY_TOKEN", "settings": {"HOST": "{host}"}})
    assert spec.env == ("MY_TOKEN",)
    assert spec.settings == {"HOST": "{host}"}  # a constant of the admin's own is left as it is
    assert spec.variables == PROVIDERS["gitlab"]["variables"]


@pytest.mark.parametrize(
    "url, host",
    [
        param(None, "github.com", id="default"),
        param("https://ghe.example.org", "ghe.example.org", id="enterprise"),
        param("https://ghe.example.org:8443/", "ghe.example.org:8443", id="port-and-slash"),
        param("http://example.org/github", "example.org", id="path"),
    ],
)
def test_the_host_follows_the_url(url, host):
    fields = {"preset": "github"} | ({"url": url} if url else {})
    assert parse(fields).settings["GITHUB_HOST"] == host


def test_an_empty_url_is_the_presets():
    assert parse({"preset": "gitlab", "url": None}).settings["GITLAB_HOST"] == "gitlab.com"


def test_a_spawner_without_files_has_none_in_its_specs():
    spec = parse({"preset": "github"}, files=False)
    assert not spec.file and spec.file_env is None


def test_a_file_where_the_spawner_has_none_is_an_error_that_names_the_class_to_use():
    with pytest.raises(SpecError, match=r"tokens\['gitlab'\]\.file: .*LocalTokenMixin"):
        parse({"file": True, "env": "T"}, files=False)


def test_a_consumer_where_the_spawner_has_no_files_is_an_error_that_names_the_class_to_use():
    with pytest.raises(SpecError, match=r"tokens\['aws'\]\.file: .*LocalTokenMixin"):
        parse({"preset": "aws", "settings": {"AWS_ROLE_ARN": "arn"}}, "aws", files=False)


def test_what_a_consumer_needs_can_come_from_the_login():
    spec = parse({"preset": "aws", "variables": {"AWS_ROLE_ARN": "oauth_user.role"}})
    assert spec.claims == ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"]


def test_config_is_read_from_every_section_that_jupyterhub_admins_use():
    for section in (
        "TokenSpawnerMixin",
        "LocalTokenMixin",
        "TokenSimpleLocalProcessSpawner",
        "Spawner",
    ):
        config = Config()
        config[section].tokens = {"a": {"env": "A"}}
        assert TokenSimpleLocalProcessSpawner(config=config).tokens == {"a": {"env": "A"}}, section


@pytest.mark.parametrize(
    "trait, value",
    [
        ("tokens_missing", "ignore"),
        ("tokens_min_lifetime", -1),
        ("tokens_hook", "exchange"),
        ("tokens", []),
    ],
)
def test_a_wrong_trait_is_a_trait_error_that_names_it(trait, value):
    config = Config()
    config.TokenSpawnerMixin[trait] = value
    with pytest.raises(TraitError, match=trait):
        TokenSimpleLocalProcessSpawner(config=config)


def test_the_wrong_order_of_classes_is_a_type_error_that_shows_the_right_one():
    from jupyterhub.spawner import LocalProcessSpawner

    with pytest.raises(TypeError, match=r"class Wrong\(LocalTokenMixin, LocalProcessSpawner\)"):

        class Wrong(LocalProcessSpawner, LocalTokenMixin):
            pass

    class Right(TokenSpawnerMixin, LocalProcessSpawner):
        pass

    class Feature(LocalProcessSpawner):
        """Might not call super, so it has to stand behind the mixin."""

    with pytest.raises(TypeError, match=r"class AlsoWrong\(Right, Feature\)"):

        class AlsoWrong(Feature, Right):
            pass

    class WithFeature(Right, Feature):
        pass
