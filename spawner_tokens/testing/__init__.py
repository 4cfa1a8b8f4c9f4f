"""The contract of a backend as a test class to inherit. It needs pytest and pytest-asyncio."""

from .contents import DIFFICULT_NAMES, DIFFICULT_VALUES, Files
from .contract import DeliveryContract
from .hub import BareHub
from .platform import Servers

__all__ = ["DIFFICULT_NAMES", "DIFFICULT_VALUES", "BareHub", "DeliveryContract", "Files", "Servers"]
