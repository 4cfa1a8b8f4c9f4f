"""Refusals: the words for the user, and for the log, if a token is not as its spec asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from jupyterhub import spawner as jupyterhub_spawner
from jupyterhub.spawner import Spawner
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from .metrics import count_refusal
from .tokens.selection import Reason, Token


class Problem(NamedTuple):
    """Why the token of this name is not as its spec asks. ``detail`` holds no values."""

    token: str
    reason: Reason
    detail: str = ""


class _Words(NamedTuple):
    user: str
    admin: str
    needs_admin: bool = False
    login_helps: bool = True


def _for_admin(user: str, admin: str) -> _Words:
    return _Words(user, admin, needs_admin=True, login_helps=False)


_WORDS = {
    Reason.AUTH_STATE_OFF: _Words(
        "this JupyterHub does not keep the tokens of your login",
        "auth state is off: set c.Authenticator.enable_auth_state = True and the environment "
        "variable JUPYTERHUB_CRYPT_KEY of the Hub",
        needs_admin=True,
    ),
    Reason.NO_CRYPT_KEY: _Words(
        "this JupyterHub has no key to read the tokens of your login with",
        "there is no crypt key: set the environment variable JUPYTERHUB_CRYPT_KEY of the Hub "
        "(openssl rand -hex 32)",
        needs_admin=True,
    ),
    Reason.UNDECRYPTABLE: _Words(
        "the stored data of your last login can no longer be read",
        "auth_state could not be decrypted: it was encrypted with another key. Add that key to "
        "JUPYTERHUB_CRYPT_KEY, after a semicolon, or let the user log in again",
    ),
    Reason.NEVER_STORED: _Words(
        "nothing was kept of your last login",
        "no auth_state is stored: the user has not logged in since auth state was enabled",
    ),
    Reason.ABSENT: _Words("your login did not give it", "not in auth_state"),
    Reason.EXPIRED: _Words("it has expired", "expired"),
    Reason.SHORT_LIVED: _Words("it is about to expire", "too short-lived"),
    Reason.LOGIN_ENDED: _Words(
        "your login has ended", "the provider does not renew this login any more"
    ),
    Reason.KIND_CHANGED: _for_admin(
        "it is not of the kind that it was", "the renewed token is of another kind"
    ),
    Reason.SCOPE_MISSING: _Words(
        "your login did not grant all that it needs", "a scope is missing"
    ),
    Reason.SCOPE_NOT_REQUESTED: _for_admin(
        "this JupyterHub does not ask your login for all that it needs",
        "the login does not ask for a required scope: add it to the authenticator's scope",
    ),
    Reason.SCOPE_FORBIDDEN: _Words(
        "your login granted more than is allowed here",
        "a forbidden scope was granted",
        needs_admin=True,
    ),
    Reason.UNUSABLE: _for_admin("it has a form that cannot be used", "cannot be delivered"),
    Reason.KEY_FAILED: _for_admin("it could not be looked up", "could not be looked up"),
    Reason.REFRESH_TOKEN: _for_admin(
        "it is one that must not leave this JupyterHub", "the refresh token never leaves the Hub"
    ),
    Reason.EXCHANGE_FAILED: _Words(
        "the provider did not give it now: try again in a minute",
        "not exchanged",
        login_helps=False,
    ),
    Reason.EXCHANGE_DENIED: _Words(
        "the provider does not give it for your login",
        "the provider denied the exchange",
        needs_admin=True,
    ),
    Reason.HOOK_FAILED: _for_admin("it could not be prepared", "tokens_hook failed"),
    Reason.HOOK_WITHHELD: _for_admin(
        "it was withheld by this JupyterHub", "withheld by tokens_hook"
    ),
    Reason.SHARED: _Words(
        "it is not for a server that is shared with others: stop sharing this one first",
        "the server is shared",
        login_helps=False,
    ),
    Reason.DELIVERY_FAILED: _for_admin(
        "it could not be handed over", "the files could not be delivered"
    ),
    Reason.MISCONFIGURED: _for_admin(
        "this JupyterHub's configuration of it is wrong", "misconfigured"
    ),
}

_SERVER_ERRORS = {
    Reason.AUTH_STATE_OFF,
    Reason.NO_CRYPT_KEY,
    Reason.DELIVERY_FAILED,
    Reason.MISCONFIGURED,
}


def explain(reason: Reason, detail: str = "") -> str:
    """The reason why a token is not as its spec asks, in words for the admin."""
    words = _WORDS[reason].admin
    return f"{words} ({detail})" if detail else words


def log_problems(
    spawner: Any, tokens: Iterable[Token], find_policy: Callable[[Token], str]
) -> None:
    """Log why tokens are not as their specs ask, by the policy of each."""
    for token in tokens:
        policy = find_policy(token)
        if token.reason is not None and policy != "skip":
            level = logging.ERROR if policy == "refuse" else logging.WARNING
            words = explain(token.reason, token.detail)
            spawner.log.log(level, "%s: token %s: %s", spawner._log_name, token.spec.name, words)


def log_omitted(spawner: Any, tokens: Iterable[Token], find_policy: Callable[[Token], str]) -> None:
    """Log which variables tokens come without, by the policy of each."""
    for token in tokens:
        if token.omitted and find_policy(token) != "skip":
            listed = ", ".join(f"{name} ({why})" for name, why in token.omitted.items())
            words = "%s: token %s comes without these variables: %s"
            spawner.log.info(words, spawner._log_name, token.spec.name, listed)


def refuse(spawner: Spawner, problems: Sequence[Problem]) -> NoReturn:
    """Count the refusal of a spawn, and raise the exception of :func:`make_refusal`."""
    count_refusal(problems[0].reason)
    refusal = make_refusal(spawner, problems)
    if not hasattr(jupyterhub_spawner, "SpawnException") and spawner.handler is not None:
        # JupyterHub 5's error page does not show an exception's own message.
        spawner.handler.extra_error_html = refusal.jupyterhub_html_message
    raise refusal from None


def make_refusal(spawner: Spawner, problems: Sequence[Problem]) -> Any:
    """The exception that ends a spawn, with the reason and the advice for the user.

    It is a :class:`jupyterhub.spawner.SpawnException` (since JupyterHub 6.0), else a
    :class:`tornado.web.HTTPError`. Its status is 500 if the Hub's configuration is the reason, else
    403. The pending and progress pages show its ``jupyterhub_message`` and
    ``jupyterhub_html_message``.
    """
    names = ", ".join(problem.token for problem in problems)
    reasons = ", ".join(dict.fromkeys(_make_user_words(problem) for problem in problems))
    what = (
        f"The server was not started, because it needs the token{'s' if len(problems) > 1 else ''} "
        f"{names} of {spawner.user.name}: {reasons}."
    )
    advice, link, url = _make_advice(spawner, [_WORDS[problem.reason] for problem in problems])
    text = f"{what}{advice} {link}: {url}"
    html = f'{escape(what + advice)} <a href="{escape(url)}">{escape(link)}</a>.'
    status = 500 if any(problem.reason in _SERVER_ERRORS for problem in problems) else 403
    if hasattr(jupyterhub_spawner, "SpawnException"):
        label = f"token_{problems[0].reason.value}"
        refusal = jupyterhub_spawner.SpawnException(
            text, reason=label, message_html=html, status_code=status
        )
    else:
        refusal = web.HTTPError(status, text)
    refusal.jupyterhub_message = text
    refusal.jupyterhub_html_message = html
    return refusal


def make_answer(spawner: Spawner, problem: Problem) -> str:
    """Why a server that runs does not have a token, with the advice for its user."""
    words = _make_user_words(problem)
    advice, link, url = _make_advice(spawner, [_WORDS[problem.reason]])
    what = f"There is no token {problem.token} of {spawner.user.name} here: {words}."
    return f"{what}{advice} {link}: {url}"


def _make_user_words(problem: Problem) -> str:
    words = _WORDS[problem.reason].user
    if problem.reason.value.startswith("scope_"):
        return f"{words} ({problem.detail})"
    return words


def _make_advice(spawner: Spawner, words: Sequence[_Words]) -> tuple[str, str, str]:
    """The advice for the user, and the text and the URL of a link that leads back to the spawn."""
    user, base_url = spawner.user, spawner.hub.base_url
    advice = ""
    if any(each.needs_admin for each in words):
        advice = " Please tell the administrator of this JupyterHub; when that is settled:"
    viewer = getattr(spawner.handler, "current_user", None)
    if getattr(viewer, "name", user.name) != user.name:
        advice += f" {user.name} has to follow this link:"
    spawn = url_path_join(base_url, "spawn", user.escaped_name, url_escape_path(spawner.name))
    login = spawner.authenticator.login_url(base_url)
    if not any(each.login_helps for each in words):
        link, url = "Try again", spawn
    elif login == url_path_join(base_url, "login"):
        # JupyterHub's own login page does not ask a user who is logged in.
        link, url = "Log out and log in again", url_path_join(base_url, "logout")
    else:
        link, url = "Log in again", url_concat(login, {"next": spawn})
    if url.startswith("/") and spawner.public_hub_url:
        url = "{0.scheme}://{0.netloc}".format(urlsplit(spawner.public_hub_url)) + url
    return advice, link, url
