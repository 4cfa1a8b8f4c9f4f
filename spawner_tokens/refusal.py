"""The refusal: what the user sees, and the admin reads in the log, if a token is not as asked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from jupyterhub import spawner as jupyterhub_spawner
from jupyterhub.spawner import Spawner
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from .metrics import count_refusal
from .tokens.selection import Reason


class Problem(NamedTuple):
    """A token that is not as asked, by its name. ``detail`` has names only."""

    token: str
    reason: Reason
    detail: str = ""


class _Words(NamedTuple):
    user: str
    admin: str
    admins_turn: bool = False
    login_helps: bool = True


def _admin(user: str, admin: str) -> _Words:
    return _Words(user, admin, admins_turn=True, login_helps=False)


_WORDS = {
    Reason.AUTH_STATE_OFF: _Words(
        "this JupyterHub does not keep the tokens of your login",
        "auth state is off: set c.Authenticator.enable_auth_state = True and the environment variable "
        "JUPYTERHUB_CRYPT_KEY of the Hub",
        admins_turn=True,
    ),
    Reason.NO_CRYPT_KEY: _Words(
        "this JupyterHub has no key to read the tokens of your login with",
        "there is no crypt key: set the environment variable JUPYTERHUB_CRYPT_KEY of the Hub (openssl rand -hex 32)",
        admins_turn=True,
    ),
    Reason.UNDECRYPTABLE: _Words(
        "what was kept of your last login can no longer be read",
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
    Reason.SCOPE_MISSING: _Words(
        "your login did not grant all that it needs", "a scope is missing"
    ),
    Reason.SCOPE_FORBIDDEN: _Words(
        "your login granted more than is allowed here",
        "a forbidden scope was granted",
        admins_turn=True,
    ),
    Reason.UNUSABLE: _admin("it has a form that cannot be used", "cannot be delivered"),
    Reason.KEY_FAILED: _admin("it could not be looked up", "could not be looked up"),
    Reason.REFRESH_TOKEN: _admin(
        "it is one that must not leave this JupyterHub", "the refresh token never leaves the Hub"
    ),
    Reason.HOOK_FAILED: _admin("it could not be prepared", "tokens_hook failed"),
    Reason.HOOK_WITHHELD: _admin("it was withheld by this JupyterHub", "withheld by tokens_hook"),
    Reason.DELIVERY_FAILED: _admin(
        "it could not be handed over", "the files could not be delivered"
    ),
    Reason.MISCONFIGURED: _admin("this JupyterHub's configuration of it is wrong", "misconfigured"),
}

_HUBS_FAULT = {
    Reason.AUTH_STATE_OFF,
    Reason.NO_CRYPT_KEY,
    Reason.DELIVERY_FAILED,
    Reason.MISCONFIGURED,
}


def explain(reason: Reason, detail: str = "") -> str:
    """Why a token is not as asked, for the admin."""
    words = _WORDS[reason].admin
    return f"{words} ({detail})" if detail else words


def refuse(spawner: Spawner, problems: Sequence[Problem]) -> NoReturn:
    """Count the refusal of a spawn, and raise it as :func:`make_refusal` makes it."""
    count_refusal(problems[0].reason)
    refusal = make_refusal(spawner, problems)
    if not hasattr(jupyterhub_spawner, "SpawnException") and spawner.handler is not None:
        # JupyterHub 5's error page shows only this of an exception.
        spawner.handler.extra_error_html = refusal.jupyterhub_html_message
    raise refusal from None


def make_refusal(spawner: Spawner, problems: Sequence[Problem]) -> Any:
    """The exception that ends a spawn and says to the user why, and what to do.

    A :class:`jupyterhub.spawner.SpawnException` where there is one (JupyterHub 6.0), else a
    :class:`tornado.web.HTTPError`. Its status is 403, or 500 where the Hub itself is at fault. Its
    ``jupyterhub_message`` and ``jupyterhub_html_message`` are what the pending and progress pages
    show.
    """
    names = ", ".join(problem.token for problem in problems)
    why = ", ".join(dict.fromkeys(_make_user_words(problem) for problem in problems))
    what = (
        f"The server was not started, because it needs the token{'s' if len(problems) > 1 else ''} "
        f"{names} of {spawner.user.name}: {why}."
    )
    turn, link, url = _make_advice(spawner, [_WORDS[problem.reason] for problem in problems])
    text = f"{what}{turn} {link}: {url}"
    html = f'{escape(what + turn)} <a href="{escape(url)}">{escape(link)}</a>.'
    status = 500 if any(problem.reason in _HUBS_FAULT for problem in problems) else 403
    if hasattr(jupyterhub_spawner, "SpawnException"):
        reason = f"token_{problems[0].reason.value}"
        refusal = jupyterhub_spawner.SpawnException(
            text, reason=reason, message_html=html, status_code=status
        )
    else:
        refusal = web.HTTPError(status, text)
    refusal.jupyterhub_message = text
    refusal.jupyterhub_html_message = html
    return refusal


def _make_user_words(problem: Problem) -> str:
    words = _WORDS[problem.reason].user
    if problem.reason in (Reason.SCOPE_MISSING, Reason.SCOPE_FORBIDDEN):
        return f"{words} ({problem.detail})"
    return words


def _make_advice(spawner: Spawner, words: Sequence[_Words]) -> tuple[str, str, str]:
    """What to do, the words of the link, and its URL, which leads back to the spawn."""
    user, base_url = spawner.user, spawner.hub.base_url
    turn = ""
    if any(each.admins_turn for each in words):
        turn = " Please tell the administrator of this JupyterHub; when that is settled:"
    viewer = getattr(spawner.handler, "current_user", None)
    if getattr(viewer, "name", user.name) != user.name:
        turn += f" {user.name} has to follow this link:"
    spawn = url_path_join(base_url, "spawn", user.escaped_name, url_escape_path(spawner.name))
    login = spawner.authenticator.login_url(base_url)
    if not any(each.login_helps for each in words):
        link, url = "Try again", spawn
    elif login == url_path_join(base_url, "login"):  # that page only sends on who is logged in
        link, url = "Log out and log in again", url_path_join(base_url, "logout")
    else:
        link, url = "Log in again", url_concat(login, {"next": spawn})
    if url.startswith("/") and spawner.public_hub_url:
        url = "{0.scheme}://{0.netloc}".format(urlsplit(spawner.public_hub_url)) + url
    return turn, link, url
