"""Keep fresh: what a user's login needs at the provider. Its door is :class:`Renewal`."""

from .renewal import Renewal
from .store import read_login

__all__ = ["Renewal", "read_login"]
