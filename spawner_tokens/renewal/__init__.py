"""Keep fresh: what a user's login needs at the provider. Its door is :class:`Renewal`.

:class:`Exchanges` are there without it, too: for servers whose tokens are not renewed.
"""

from .auth_state import read_login
from .exchange import Exchanges
from .renewal import Renewal
from .restoring import restore, withhold

__all__ = ["Exchanges", "Renewal", "read_login", "restore", "withhold"]
