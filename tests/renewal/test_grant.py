"""What a failed grant means: who has to do something about it."""

import asyncio
import json
from io import BytesIO

import pytest
from pytest import param
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError

from spawner_tokens.renewal.grant import FailureKind as Kind
from spawner_tokens.renewal.grant import ResponseRecorder, explain_failure, is_transient
from spawner_tokens.renewal.issuer import are_same

REJECTED, MISCONFIGURED, TRANSIENT = Kind.REJECTED, Kind.MISCONFIGURED, Kind.TRANSIENT
SECRET = "s3cret-refresh-token"


def answer(code, body=b"", **headers):
    response = HTTPResponse(
        HTTPRequest("http://provider"), code, HTTPHeaders(headers), BytesIO(body)
    )
    return HTTPClientError(code, SECRET, response)


def oauth(code, error):
    return answer(code, json.dumps({"error": error, "error_description": SECRET}).encode())


@pytest.mark.parametrize(
    "error, kind, words",
    [
        param(oauth(400, "invalid_grant"), REJECTED, "invalid_grant", id="RFC 6749"),
        param(oauth(401, "invalid_grant"), REJECTED, "invalid_grant", id="Doorkeeper"),
        param(oauth(400, "interaction_required"), REJECTED, "interaction_required", id="Azure"),
        param(oauth(401, "invalid_client"), MISCONFIGURED, "invalid_client", id="wrong secret"),
        param(oauth(400, "invalid_scope"), MISCONFIGURED, "invalid_scope", id="scope"),
        param(oauth(400, SECRET), MISCONFIGURED, "an error of its own", id="no code"),
        param(
            oauth(400, "gho_16C7e42F292c6912E7710c838347Ae178B4a"),
            MISCONFIGURED,
            "an error of its own",
            id="a token",
        ),
        param(answer(400, b"[" * 10**5), MISCONFIGURED, "HTTP 400", id="deep"),
        param(oauth(400, [SECRET]), MISCONFIGURED, "an error of its own", id="a list"),
        param(oauth(400, "temporarily_unavailable"), TRANSIENT, "temporarily_unavailable"),
        param(oauth(503, "invalid_grant"), TRANSIENT, "HTTP 503", id="a status of 5xx counts more"),
        param(answer(404, b"<html>"), MISCONFIGURED, "HTTP 404", id="wrong URL"),
        param(answer(403, b"[]"), MISCONFIGURED, "HTTP 403", id="a list for an object"),
        param(answer(500), TRANSIENT, "HTTP 500", id="500"),
        param(answer(429), TRANSIENT, "HTTP 429", id="429"),
        param(HTTPClientError(599, SECRET), TRANSIENT, "HTTPClientError", id="no answer"),
        param(ConnectionRefusedError(SECRET), TRANSIENT, "ConnectionRefusedError", id="refused"),
        param(asyncio.TimeoutError(SECRET), TRANSIENT, "TimeoutError", id="timeout"),
        param(json.JSONDecodeError("", SECRET, 0), TRANSIENT, "JSONDecodeError", id="garbage"),
        param(TypeError(SECRET), MISCONFIGURED, "TypeError", id="a mistake in the authenticator"),
    ],
)
def test_an_error_is_the_providers_the_admins_or_the_users(error, kind, words):
    failure = explain_failure(error, ResponseRecorder())
    assert (failure.kind, failure.words) == (kind, words)
    assert SECRET not in repr(failure)


@pytest.mark.parametrize(
    "said, kind",
    [
        param({"error": "bad_refresh_token"}, REJECTED, id="GitHub"),
        param({"error": "incorrect_client_credentials"}, MISCONFIGURED, id="GitHub, wrong secret"),
        param({"error": ""}, TRANSIENT, id="empty"),
        param({}, TRANSIENT, id="nothing"),
        param(None, TRANSIENT, id="null"),
        param([SECRET], TRANSIENT, id="a list"),
    ],
)
def test_an_error_may_come_with_status_200(said, kind):
    error = HTTPError(500, f"Bad response: {said} {SECRET}")  # OAuthenticator's
    failure = explain_failure(error, ResponseRecorder(answer=said, answered=True))
    assert failure.kind is kind and SECRET not in failure.words


@pytest.mark.parametrize(
    "header, seconds",
    [
        ("7", 7),
        ("99999999", 3600),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("-1", 0),
        ("²", 0),
        ("", 0),
    ],
)
def test_the_provider_may_say_when_to_ask_again(header, seconds):
    assert (
        explain_failure(answer(429, **{"Retry-After": header}), ResponseRecorder()).retry_after
        == seconds
    )


def test_what_says_nothing_of_the_user():
    assert all(
        map(
            is_transient,
            [answer(500), answer(429), HTTPError(500), OSError(), asyncio.TimeoutError()],
        )
    )
    assert not any(map(is_transient, [answer(401), answer(403), HTTPError(403), TypeError(), None]))


@pytest.mark.parametrize(
    "url, same",
    [
        param("https://sso.example.org/token/", True, id="slash"),
        param("HTTPS://SSO.example.org/token", True, id="case"),
        param("https://sso.example.org:443/token", True, id="port"),
        param("http://sso.example.org/token", False, id="another-scheme"),
        param("https://sso.example.org:8443/token", False, id="another-port"),
        param("https://sso.example.org:x/token", False, id="no-port"),
        param("https://sso.example.org/Token", False, id="another-path"),
        param("https://sso.example.org/token?tenant=a", False, id="another-query"),
        param("https://sso.example.org.evil/token", False, id="another-host"),
        param("https://sso.example.org@evil/token", False, id="a-host-as-a-user"),
        *(param(value, False, id=repr(value)) for value in (None, 5, [], "", b"https://")),
    ],
)
def test_where_a_refresh_token_is_from_is_compared_however_it_is_spelled(url, same):
    assert are_same(url, "https://sso.example.org/token") is same and are_same(url, url)
