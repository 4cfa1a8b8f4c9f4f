"""What a failed grant means: who has to do something about it."""

import asyncio
import json
from io import BytesIO

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError

from spawner_tokens.renewal.grant import (
    FailureKind,
    ResponseRecorder,
    explain_failure,
    is_transient,
)

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
        pytest.param(
            oauth(400, "invalid_grant"), FailureKind.REJECTED, "invalid_grant", id="RFC 6749"
        ),
        pytest.param(
            oauth(401, "invalid_grant"), FailureKind.REJECTED, "invalid_grant", id="Doorkeeper"
        ),
        pytest.param(
            oauth(400, "interaction_required"),
            FailureKind.REJECTED,
            "interaction_required",
            id="Azure",
        ),
        pytest.param(
            oauth(401, "invalid_client"),
            FailureKind.MISCONFIGURED,
            "invalid_client",
            id="wrong secret",
        ),
        pytest.param(
            oauth(400, "invalid_scope"), FailureKind.MISCONFIGURED, "invalid_scope", id="scope"
        ),
        pytest.param(
            oauth(400, SECRET), FailureKind.MISCONFIGURED, "an error of its own", id="no code"
        ),
        pytest.param(
            oauth(400, [SECRET]), FailureKind.MISCONFIGURED, "an error of its own", id="a list"
        ),
        pytest.param(
            oauth(400, "temporarily_unavailable"),
            FailureKind.TRANSIENT,
            "temporarily_unavailable",
            id="later",
        ),
        pytest.param(
            oauth(503, "invalid_grant"),
            FailureKind.TRANSIENT,
            "HTTP 503",
            id="a status of 5xx counts more",
        ),
        pytest.param(answer(404, b"<html>"), FailureKind.MISCONFIGURED, "HTTP 404", id="wrong URL"),
        pytest.param(
            answer(403, b"[]"), FailureKind.MISCONFIGURED, "HTTP 403", id="a list for an object"
        ),
        pytest.param(answer(500), FailureKind.TRANSIENT, "HTTP 500", id="500"),
        pytest.param(answer(429), FailureKind.TRANSIENT, "HTTP 429", id="429"),
        pytest.param(
            HTTPClientError(599, SECRET), FailureKind.TRANSIENT, "HTTPClientError", id="no answer"
        ),
        pytest.param(
            ConnectionRefusedError(SECRET),
            FailureKind.TRANSIENT,
            "ConnectionRefusedError",
            id="refused",
        ),
        pytest.param(
            asyncio.TimeoutError(SECRET), FailureKind.TRANSIENT, "TimeoutError", id="timeout"
        ),
        pytest.param(
            json.JSONDecodeError("", SECRET, 0),
            FailureKind.TRANSIENT,
            "JSONDecodeError",
            id="garbage",
        ),
        pytest.param(
            TypeError(SECRET),
            FailureKind.MISCONFIGURED,
            "TypeError",
            id="a mistake in the authenticator",
        ),
    ],
)
def test_an_error_is_the_providers_the_admins_or_the_users(error, kind, words):
    failure = explain_failure(error, ResponseRecorder())
    assert (failure.kind, failure.words) == (kind, words)
    assert SECRET not in repr(failure)


@pytest.mark.parametrize(
    "said, kind",
    [
        pytest.param({"error": "bad_refresh_token"}, FailureKind.REJECTED, id="GitHub"),
        pytest.param(
            {"error": "incorrect_client_credentials"},
            FailureKind.MISCONFIGURED,
            id="GitHub, wrong secret",
        ),
        pytest.param({"error": ""}, FailureKind.TRANSIENT, id="empty"),
        pytest.param({}, FailureKind.TRANSIENT, id="nothing"),
        pytest.param(None, FailureKind.TRANSIENT, id="null"),
        pytest.param([SECRET], FailureKind.TRANSIENT, id="a list"),
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
