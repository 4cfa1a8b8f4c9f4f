"""What a spec means where it says little: presets, defaults, sections of the config."""

import pytest
from jupyterhub.spawner import SimpleLocalProcessSpawner
from pytest import param
from traitlets import TraitError, Unicode
from traitlets.config import Config

from spawner_tokens import LocalTokenMixin, TokenSimpleLocalProcessSpawner, TokenSpawnerMixin
from spawner_tokens.tokens.fields import SpecError
from spawner_tokens.tokens.presets import PROVIDERS

from .test_spec import parse


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


@pytest.mark.parametrize("field", ["env", "variables", "settings", "file_env", "git"])
def test_false_stands_for_none_of_it_too_since_an_override_cannot_say_null(field):
    base = {"preset": "gitlab"}
    assert parse(base | {field: False}) == parse(base | {field: None}) != parse(base)


def test_a_single_false_leaves_out_a_variable_of_the_preset_too():
    fields = {"variables": {"A": "x.a", "B": False}, "settings": {"C": False}}
    assert parse(fields).claims == ["GITLAB_TOKEN_FILE", "A"]


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


class Theirs(SimpleLocalProcessSpawner):
    """As EGI's: it has a trait with a name that is not ours alone."""

    tokens_mount_path = Unicode("/theirs").tag(config=True)


class Helper:
    def prepare_tokens(self):
        pass


class Backend(SimpleLocalProcessSpawner):
    async def deliver_files(self, files):
        pass


class Private(SimpleLocalProcessSpawner):
    _remove = "theirs"


@pytest.mark.parametrize(
    "mixin, behind, ours",
    [
        param(TokenSpawnerMixin, (Theirs,), "tokens_mount_path of TokenTraits", id="trait"),
        param(
            TokenSpawnerMixin,
            (Helper, SimpleLocalProcessSpawner),
            "prepare_tokens of TokenSpawnerMixin",
            id="method-of-no-spawner",
        ),
        param(LocalTokenMixin, (Backend,), "deliver_files of LocalTokenMixin", id="contract"),
        param(LocalTokenMixin, (Private,), "_remove of LocalTokenMixin", id="private"),
    ],
)
def test_a_name_that_a_class_behind_the_mixin_has_too_is_a_type_error(mixin, behind, ours):
    with pytest.raises(TypeError) as error:
        type("Mine", (mixin, *behind), {})
    name = ours.partition(" ")[0]
    assert f"class Mine: {ours} would take the place of {name} of {behind[0].__name__}" in str(
        error.value
    )


def test_what_stands_in_front_of_the_mixin_may_have_our_names_and_ours_extend_what_is_behind():
    class Behind(SimpleLocalProcessSpawner):
        def get_env(self):
            return super().get_env()

    class Lab:  # an admin's own mixins have nothing of ours
        default_url = "/lab"

    class Company(LocalTokenMixin):
        def options_from_form(self, form):
            return form

    class Mine(Lab, Company, Behind):
        tokens_mount_path = Unicode("/mine")

        async def deliver_files(self, files):
            await super().deliver_files(files)

    assert Mine.get_env is TokenSpawnerMixin.get_env


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
