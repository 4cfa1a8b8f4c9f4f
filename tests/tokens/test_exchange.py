"""A spec's exchange: what it may say, what is asked, and what becomes of the answer."""

import json
import math
from urllib.parse import parse_qsl

import pytest
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.tokens.due import find_due
from spawner_tokens.tokens.fields import SpecError
from spawner_tokens.tokens.files import make_status
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.record import find_functions, make_record, read_record
from spawner_tokens.tokens.selection import Exchanged, Login, Reason, check, select
from spawner_tokens.tokens.spec import parse_tokens

SECRET = "s3cret-of-the-client"
OBO = {"type": "azure-obo", "scope": "https://graph.microsoft.com/Files.Read"}
OWN = {"client_id": "mine", "client_secret": SECRET, "token_url": "https://sso.example.org/token/"}


def parse(exchange, **more):
    specs = parse_tokens(
        {"plain": {"key": "id_token"}, "eos": {"exchange": exchange, **more}}, files=True
    )
    return specs[1]


@pytest.mark.parametrize(
    "fields, field, fix",
    [
        param({"exchange": "eos"}, "", 'a dict, such as {"audience"', id="text"),
        param(
            {"exchange": {"audiance": SECRET}}, ".audiance", "did you mean 'audience'", id="name"
        ),
        param({"exchange": {"type": SECRET}}, ".type", "rfc8693, azure-obo", id="type"),
        param(
            {"exchange": {"subject": "saml2"}}, ".subject", "access_token, id_token", id="subject"
        ),
        param({"exchange": {"subject": "id_token"}}, ".subject", "set key", id="another-subject"),
        param({"exchange": {"audience": 5}}, ".audience", "list of texts", id="audience"),
        param({"exchange": {"scope": ["\ud800"]}}, ".scope", "remove it", id="surrogate"),
        param({"exchange": {"token_url": "sso/token"}}, ".token_url", "http(s)", id="url"),
        param({"exchange": {"token_url": "http://a/t?b#c"}}, ".token_url", "fragment", id="query"),
        param({"exchange": {"client_id": ""}}, ".client_id", "not an empty one", id="empty-client"),
        param({"exchange": {"client_secret": 5, "client_id": "a"}}, ".client_secret", "a text"),
        param({"exchange": {"client_secret": SECRET}}, ".client_secret", "add its client_id"),
        param({"exchange": {"type": "azure-obo"}}, ".scope", "needs one", id="obo-without-scope"),
        param({"exchange": {**OBO, "audience": "a"}}, ".audience", "remove it", id="obo-audience"),
        param({"exchange": {**OBO, "resource": "a"}}, ".resource", "remove it", id="obo-resource"),
        param({"exchange": {**OBO, "subject": "jwt"}}, ".subject", "remove it", id="obo-subject"),
        param({"exchange": {"of": "t"}, "key": "x"}, ".of", "remove one", id="key-and-of"),
        param({"exchange": {"of": "plane"}}, ".of", "did you mean 'plain'", id="unknown-of"),
        param({"exchange": {"of": "eos"}}, ".of", "is of itself; name a token", id="itself"),
        param({"exchange": {"of": "chained"}}, ".of", "of 'chained', which is of", id="two-steps"),
    ],
)
def test_a_wrong_exchange_is_a_trait_error_that_names_entry_field_and_fix(fields, field, fix):
    chained = {"exchange": {"audience": "a", "of": "plain"}}
    config = Config()
    config.TokenSpawnerMixin.tokens = {"plain": {}, "chained": chained, "eos": fields}
    with pytest.raises(TraitError) as error:
        TokenSimpleLocalProcessSpawner(config=config)
    words = str(error.value)
    assert f".tokens['eos'].exchange{field}: " in words and fix in words and SECRET not in words


@pytest.mark.parametrize(
    "exchange, params",
    [
        param(
            {"audience": ["eos", "cta"], "resource": "https://eos", "scope": ["read", "write"]},
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=the+subject"
            "&subject_token_type=urn:ietf:params:oauth:token-type:access_token"
            "&requested_token_type=urn:ietf:params:oauth:token-type:access_token"
            "&audience=eos&audience=cta&resource=https://eos&scope=read+write",
            id="rfc8693",
        ),
        param(
            {"subject": "jwt"},
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=the+subject"
            "&subject_token_type=urn:ietf:params:oauth:token-type:jwt"
            "&requested_token_type=urn:ietf:params:oauth:token-type:access_token",
            id="rfc8693-with-nothing",
        ),
        param(
            OBO,
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer"
            "&requested_token_use=on_behalf_of&assertion=the+subject"
            "&scope=https://graph.microsoft.com/Files.Read",
            id="azure-obo",
        ),
    ],
)
def test_what_is_asked_is_what_the_standards_have(exchange, params):
    assert parse(exchange).exchange.make_params("the subject") == parse_qsl(params)


def test_a_subject_may_be_another_token_and_that_one_may_be_exchanged_itself():
    first = {"audience": "a"}
    specs = parse_tokens(
        {
            "second": {"exchange": {"audience": "b", "of": "first"}},
            "first": {"key": "x.y", "exchange": first},
            "other": {"exchange": {"audience": "b", "of": "plain"}},
            "plain": {"key": "id_token"},
        },
        files=True,
    )
    second, one, other, plain = specs
    assert (second.key, second.exchange.first) == ("x.y", one.exchange)
    assert (other.key, other.exchange.first) == (plain.key, None)


def test_a_secret_is_in_no_repr():
    assert SECRET not in repr(parse(OWN)) and parse(OWN).exchange.client_secret == SECRET


def restart(start, config, now):
    """What is known after a restart of a server that was started with ``start``, or its error."""
    functions = find_functions({"tokens": config})
    traits = {"tokens": start, "tokens_hook": None, "tokens_renew": True}
    traits |= {"tokens_shared": "withhold", "tokens_pull": False}
    text = json.dumps(make_record(traits, functions))
    assert SECRET not in text
    return read_record(json.loads(text), now, find_functions({"tokens": now}), files=True)


def spec(**exchange):
    return {"eos": {"exchange": {"audience": "eos", **OWN, **exchange}}}


@pytest.mark.parametrize(
    "start, now, secret",
    [
        param(spec(), spec(), SECRET, id="the-same"),
        param(spec(), spec(client_secret="rotated"), "rotated", id="a-new-one"),
        param(spec(client_secret=f"{SECRET}-override"), spec(), None, id="of-an-override"),
        param(spec(), spec(client_id="another"), None, id="of-another-client"),
        param(spec(), spec(token_url="https://elsewhere"), None, id="for-another-provider"),
        param(spec(), {"eos": {}}, None, id="none-by-now"),
    ],
)
def test_a_secret_is_in_no_record_and_comes_from_the_config_of_the_same_client(start, now, secret):
    started = restart(start, spec(), now)
    if secret is None:
        assert (
            started.specs == () and "exchange.client_secret is a secret" in started.unknown["eos"]
        )
    else:
        assert started.specs[0].exchange.client_secret == secret
        assert not started.unknown


def test_without_the_token_that_it_is_of_an_exchange_is_not_known_any_more():
    chain = {"eos": {"exchange": {"of": "t"}}, "t": {"key": lambda state: 1}}
    started = restart(chain, {}, {})
    assert [*started.unknown] == ["t", "eos"] and "no token is called 't'" in started.unknown["eos"]


AUTH_STATE = {
    "access_token": "the-subject",
    "refresh_token": "the-refresh-token",
    "scope": ["api"],
    "oauth_user": {"name": "alice"},
    "token_response": {"access_token": "the-subject", "expires_in": 50, "created_at": 1000},
}


def select_one(exchanged, **fields):
    token = parse({"audience": "eos"}, **fields)
    login = Login(AUTH_STATE).with_exchanged({} if exchanged is None else {"eos": exchanged})
    return check(select(token, login, ["read"]), 100, 300)


def test_an_exchanged_token_has_a_life_and_scopes_of_its_own_and_the_logins_companions():
    fields = {"variables": {"EOS_USER": "oauth_user.name"}}
    token = select_one(Exchanged("value", Lifetime(0, 1000, 1000), ("eos.read",)), **fields)
    assert (token.value, token.scopes, token.reason) == ("value", ("eos.read",), None)
    assert token.companions == {"EOS_USER": "alice"}
    assert json.loads(make_status(token))["expires_at"] == "1970-01-01T00:16:40Z"


LIVE = Lifetime(0, 1000, 1000)


@pytest.mark.parametrize(
    "exchanged, fields, value, reason",
    [
        param(None, {}, None, Reason.EXCHANGE_FAILED, id="not-asked"),
        param(Exchanged(reason=Reason.ABSENT), {}, None, Reason.ABSENT, id="no-subject"),
        param(
            Exchanged("the-refresh-token", LIVE), {}, None, Reason.REFRESH_TOKEN, id="refresh-token"
        ),
        param(Exchanged("v", Lifetime(0, 90, 90)), {}, "v", Reason.EXPIRED, id="expired"),
        param(Exchanged("v", Lifetime(0, 350, 350)), {}, "v", None, id="half-of-its-life"),
        param(Exchanged("v", LIVE), {"forbidden_scopes": "w"}, None, Reason.SCOPE_FORBIDDEN),
        param(Exchanged("v", LIVE, ("r",)), {"forbidden_scopes": "w"}, "v", None, id="narrow"),
        param(
            Exchanged("v", LIVE, ("w",)), {"forbidden_scopes": "w"}, None, Reason.SCOPE_FORBIDDEN
        ),
        param(Exchanged("v", LIVE, ("r",)), {"required_scopes": "w"}, "v", Reason.SCOPE_MISSING),
    ],
)
def test_an_exchanged_token_is_checked_as_any_other(exchanged, fields, value, reason):
    token = select_one(exchanged, **fields)
    assert (token.value, token.reason) == (value, reason)


def test_a_login_is_renewed_by_the_life_of_the_subject():
    token = parse({"audience": "eos"}, min_lifetime=40)
    login = Login(AUTH_STATE).with_exchanged({"eos": Exchanged("value", Lifetime(0, 1000, 1000))})
    (due,) = find_due([token], login, 1000, 10, Lifetime.short_at).values()
    assert due == (1040, 1050, 50)


def test_the_digest_of_what_is_exchanged_follows_what_is_given_and_not_when_it_is_due():
    def digest(**fields):
        return Login({}).with_exchanged({"eos": Exchanged(**fields)}).exchanged_digest

    same = digest(value="v", lifetime=LIVE, due_at=5.0)
    assert same == digest(value="v", lifetime=LIVE, due_at=math.inf) != Login({}).exchanged_digest
    others = [digest(value="w", lifetime=LIVE), digest(value="v"), digest(reason=Reason.ABSENT)]
    assert len({same, *others}) == 4


def test_an_exchange_that_was_left_out_by_an_override_is_none():
    assert parse(False).exchange is None
    with pytest.raises(SpecError):
        parse([])
