"""What a server may ask its Hub for: its own tokens."""

from .pulls import Pulls
from .server import PulledServer

__all__ = ["PulledServer", "Pulls"]
