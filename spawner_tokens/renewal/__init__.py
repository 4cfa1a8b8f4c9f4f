"""Keep fresh: what a user's login needs at the provider. Its door is :class:`Renewal`."""

from .auth_state import read_login
from .renewal import Renewal
from .restoring import restore, withhold

__all__ = ["Renewal", "read_login", "restore", "withhold"]
