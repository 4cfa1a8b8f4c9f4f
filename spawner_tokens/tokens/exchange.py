"""The field ``exchange`` of a spec: what is asked of the provider for a subject token. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from typing import Any

from .fields import FieldReader, SpecError, nearest
from .lookup import is_deliverable

RFC8693, AZURE_OBO = "rfc8693", "azure-obo"
SUBJECTS = ("access_token", "id_token", "jwt")

_TYPE = "urn:ietf:params:oauth:token-type:"
_RFC8693_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_OBO_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True)
class Exchange:
    """What is asked for a subject token: RFC 8693's token exchange, or Azure's on-behalf-of.

    ``subject`` is the subject token's type. ``token_url``, ``client_id`` and ``client_secret`` are
    the authenticator's where they are ``None``. ``of`` names the declared token that is the
    subject, which ``first`` exchanges, if it is one that is exchanged itself.
    """

    type: str
    audience: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    scope: str = ""
    subject: str = SUBJECTS[0]
    of: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    first: Exchange | None = None

    def make_params(self, subject_token: str) -> list[tuple[str, str]]:
        """The request's parameters (RFC 8693, section 2.1), without those of the client."""
        scope = [("scope", self.scope)] if self.scope else []
        if self.type == AZURE_OBO:
            return [
                ("grant_type", _OBO_GRANT),
                ("requested_token_use", "on_behalf_of"),
                ("assertion", subject_token),
                *scope,
            ]
        return [
            ("grant_type", _RFC8693_GRANT),
            ("subject_token", subject_token),
            ("subject_token_type", _TYPE + self.subject),
            ("requested_token_type", f"{_TYPE}access_token"),
            *(("audience", each) for each in self.audience),
            *(("resource", each) for each in self.resource),
            *scope,
        ]


_FIELDS = [each.name for each in fields_of(Exchange) if each.name != "first"]


def read_exchange(
    name: str, fields: Mapping[str, Any], given: Mapping[str, Any]
) -> Exchange | None:
    """The exchange of a spec; ``None`` if it has none. Raises :exc:`.SpecError`.

    ``fields`` are those of the spec, of which it was ``given`` some.
    """
    if (value := fields["exchange"]) is None:
        return None
    if not isinstance(value, Mapping):
        problem = f'has to be a dict, such as {{"audience": …}}, not {type(value).__name__}'
        raise SpecError(name, "exchange", problem)
    for each in value:
        if each not in _FIELDS:
            raise SpecError(name, f"exchange.{each}", f"unknown field{nearest(each, _FIELDS)}")
    read = _Reader(name, {f"exchange.{each}": value.get(each) for each in _FIELDS})
    exchange = Exchange(
        type=read.policy("exchange.type", (RFC8693, AZURE_OBO)) or RFC8693,
        audience=read.texts("exchange.audience"),
        resource=read.texts("exchange.resource"),
        scope=" ".join(read.texts("exchange.scope")),
        subject=read.policy("exchange.subject", SUBJECTS) or SUBJECTS[0],
        of=read.text("exchange.of"),
        token_url=read.token_url(),
        client_id=read.text("exchange.client_id"),
        client_secret=read.text("exchange.client_secret"),
    )
    read.check(exchange, value)
    problem = "the spec's key says which token is exchanged, too; remove one of them"
    read.expect(not (exchange.of and "key" in given), "exchange.of", problem)
    problem = "the subject is what key finds, which is the access_token; set key, too"
    is_another = not exchange.of and fields["key"] == "access_token"
    read.expect(not (is_another and exchange.subject == "id_token"), "exchange.subject", problem)
    return exchange


class _Reader(FieldReader):
    """Reads the fields of an exchange. An error names no value: one of them is a secret."""

    def texts(self, field: str) -> tuple[str, ...]:
        texts = super().texts(field)
        problem = "has a character that no request can carry; remove it"
        self.expect(all(map(is_deliverable, texts)), field, problem)
        return texts

    def text(self, field: str) -> str | None:
        value: str | None = self.fields[field]
        ok = value is None or (isinstance(value, str) and value and is_deliverable(value))
        self.expect(ok, field, "has to be a text, and not an empty one")
        return value

    def token_url(self) -> str | None:
        value = self.text("exchange.token_url")
        if value is not None:
            base, _, query = value.partition("?")  # it may have one (RFC 6749, section 3.2)
            self._base_url("exchange.token_url", base)
            problem = "has a query with characters that have to be encoded, or a fragment"
            self.expect(re.fullmatch(r"[!$-~]*", query), "exchange.token_url", problem)
        return value

    def check(self, exchange: Exchange, given: Mapping[str, Any]) -> None:
        """Check those fields that depend on each other."""
        if exchange.type == AZURE_OBO:
            self.expect(exchange.scope, "exchange.scope", f"{AZURE_OBO} needs one; add it")
            for each in ("audience", "resource", "subject"):
                problem = f"{AZURE_OBO} has none, since its scope says it; remove it"
                self.expect(given.get(each) is None, f"exchange.{each}", problem)
        problem = "is that of a client; add its client_id"
        ok = exchange.client_id or not exchange.client_secret
        self.expect(ok, "exchange.client_secret", problem)
