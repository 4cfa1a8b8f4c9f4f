"""TokenKubeSpawner in Hubs that die (-9), each at a step of a spawn or of a renewal."""

import os
import signal

from spawner_tokens import TokenKubeSpawner
from spawner_tokens.backends.kubernetes.secrets import Secrets


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class SecretMade(TokenKubeSpawner):
    async def _make_create_pod_request(self, *args):
        die()


class PodMade(TokenKubeSpawner):
    async def _set_owner(self, secret):
        die()


class _InGap(Secrets):
    async def delete(self, secret):
        await super().delete(secret)
        die()


class SecretDeleted(TokenKubeSpawner):
    """In a renewal, between delete and create."""

    @property
    def _secrets(self):
        made = super()._secrets
        if self.tokens_running:
            made.__class__ = _InGap
        return made
