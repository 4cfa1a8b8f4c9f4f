"""What a refresh brought. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .auth_state import AuthState, Fingerprint, fingerprint, hash_tokens
from .grant import Failure, ResponseRecorder, is_transient


@dataclass(frozen=True)
class Step:
    """The result of a grant, or of a call of the authenticator's ``refresh_user``.

    ``asked`` is the auth_state that it was about, ``stored`` the one that it left. ``auth_model``
    is what ``refresh_user`` returned, ``error`` what it raised.
    """

    asked: AuthState = field(repr=False)
    stored: AuthState = field(repr=False)
    failure: Failure | None = None
    auth_model: Any = field(default=True, repr=False)
    error: Exception | None = field(default=None, repr=False)

    @property
    def changed(self) -> bool:
        """Whether other tokens are stored now."""
        return hash_tokens(self.stored) != hash_tokens(self.asked)


@dataclass(frozen=True)
class Outcome:
    """What a refresh brought.

    ``fingerprint`` is of the auth_state that the provider was asked about last, ``stored`` of the
    one that was left, ``attempted`` says
    whether a renewal was tried, ``renewed`` whether one succeeded, even if it changed nothing.
    ``failure`` is why none did. ``requested`` says whether a caller asked for ``auth_model`` and
    ``error``: see :class:`Step`.
    """

    fingerprint: Fingerprint
    stored: Fingerprint
    requested: bool
    attempted: bool
    renewed: bool
    changed: bool
    failure: Failure | None
    auth_model: Any = field(repr=False)
    error: Exception | None = field(repr=False)


def find_doubt(error: Exception | None, recorder: ResponseRecorder, granted: Failure | None) -> str:
    """Why a False of the authenticator, or its ``error``, says nothing of the user.

    Empty if it does. ``recorder`` has its requests' results, ``granted`` is why the refresh's own
    grant failed, if it did.
    """
    if granted is not None and granted.is_final:
        return ""
    if recorder.is_malformed:
        return "an answer without a meaning"
    trouble = error if is_transient(error) else recorder.trouble
    return type(trouble).__name__ if trouble else granted.words if granted else ""


def make_outcome(
    before: AuthState,
    granted: Step | None,
    checked: Step | None,
    *,
    renew: bool,
    renews_itself: bool,
    requested: bool,
) -> Outcome:
    """``before`` is the auth_state that the refresh began with, ``granted`` its grant, if any.

    ``checked`` is the call of ``refresh_user``, if any; where the authenticator ``renews_itself``,
    a call that did not fail is a renewal.
    """
    nothing = Step(before, before)
    check = checked or nothing
    failure = granted.failure if granted else None
    renewed = check.changed or (granted is not None and failure is None)
    if granted is None and checked is not None and checked.failure is None:
        renewed = renewed or (renew and renews_itself)
    last = granted if granted is not None and failure is not None else checked or granted or nothing
    renewed_itself = renew and renews_itself and check.changed and failure is None
    stored = (checked if checked and checked.changed else granted or nothing).stored
    return Outcome(
        fingerprint=fingerprint(check.stored if renewed_itself else last.asked),
        stored=fingerprint(stored),
        requested=requested,
        attempted=renew or granted is not None,
        renewed=renewed,
        changed=renewed and hash_tokens(stored) != hash_tokens(before),
        failure=None if renewed else failure or check.failure,
        auth_model=check.auth_model,
        error=check.error,
    )
