"""Checks of exchanges: that the Hub can ask for them, and that the provider makes them."""

from __future__ import annotations

from collections.abc import Iterator

from ..renewal.authenticators import Authenticators
from ..tokens.exchange import AZURE_OBO
from .finding import Finding, error, not_looked_at, warning
from .provider import name_provider, own_class
from .setup import Setup

# Those that have neither grant at the token_url of a login.
_NEVER = (
    *("bitbucket", "cognito", "github", "gitlab"),
    *("globus", "google", "mediawiki", "openshift"),
)


def check_exchanges(setup: Setup) -> Iterator[Finding]:
    """The provider makes the exchanges."""
    authenticator, provider = setup.authenticator, name_provider(setup)
    adapters, is_known = Authenticators(authenticator), True
    for spec in setup.specs:
        if (exchange := spec.exchange) is None:
            continue
        token, is_obo = f"tokens[{spec.name!r}]", exchange.type == AZURE_OBO
        if not adapters.can_exchange(exchange):
            cls = type(authenticator).__name__
            what = f"{token} is exchanged, and {cls} is not an OAuthenticator with a token_url."
            fix = "set c.JupyterHub.authenticator_class to one that has it, as 'generic-oauth'"
            yield error("exchange-without-oauth", what, fix)
        elif exchange.token_url is None and provider in _NEVER:
            what = f"{token} is exchanged, and {provider} exchanges no tokens."
            fix = f"remove the exchange, or set its token_url to one that takes {provider}'s tokens"
            yield error("exchange-not-offered", what, fix)
        elif exchange.token_url is None and provider == "azuread" and not is_obo:
            what = f"{token} has an exchange of the type rfc8693, which Azure AD does not have."
            fix = f'set "type": "{AZURE_OBO}" in it, and a scope in place of an audience'
            yield error("exchange-not-offered", what, fix)
        elif provider == "azuread" and is_obo:
            url = exchange.token_url or authenticator.token_url
            if url.endswith("/oauth2/token"):
                what = f"{token} is exchanged at an address of Azure AD without v2.0."
                yield error("exchange-without-v2", what, _make_v2(setup, exchange.token_url))
        else:
            is_known = False
    if not is_known:
        what = "whether the provider makes exchanges, which it says in the grant_types_supported "
        yield not_looked_at("exchanges", f"{what}of its discovery document")


def _make_v2(setup: Setup, token_url: str | None) -> str:
    """The addresses with v2.0: of the exchange, if it has one of its own, or of the login."""
    authenticator, lines = setup.authenticator, []
    if token_url is not None:
        return f'set "token_url": "{token_url.removesuffix("token")}v2.0/token" in its exchange'
    cls = own_class(authenticator).__name__
    for name, end in (("authorize_url", "/oauth2/authorize"), ("token_url", "/oauth2/token")):
        if (url := getattr(authenticator, name)).endswith(end):
            url = url.replace("/oauth2/", "/oauth2/v2.0/")
            lines.append(setup.setting(authenticator, name, url, cls))
    scope = setup.place(authenticator, "scope", cls)
    return "\n".join([*lines, f"and have a scope of the Hub's own in {scope}, as api://…/hub"])


def check_exchange_clients(setup: Setup) -> Iterator[Finding]:
    """The clients of the exchanges have secrets."""
    authenticator = setup.authenticator
    if "client_cert" in authenticator.http_request_kwargs:
        return
    for spec in setup.specs:
        if (exchange := spec.exchange) is None:
            continue
        client = authenticator if exchange.client_id is None else exchange
        if not client.client_secret:
            report = error if exchange.type == AZURE_OBO else warning
            what = f"tokens[{spec.name!r}] is exchanged by a client that has no secret here."
            fix = "add client_secret to its exchange"
            if client is authenticator:
                default = own_class(authenticator).__name__
                fix = f"set {setup.place(authenticator, 'client_secret', default)}"
            yield report("exchange-without-secret", what, f"{fix}: that of a confidential client")
