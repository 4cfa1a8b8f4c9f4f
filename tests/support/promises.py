"""The promises 1 to 14 as predicates of a simulated world: see ``tests.renewal.test_year``."""

import json
import logging
from collections import Counter, defaultdict
from pathlib import Path
from traceback import format_exception
from typing import NamedTuple

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy import text

# Seconds after its user's last trouble by which a server has a live token again: an attempt that
# hangs (60 s), and the longest pause (60 s), for the renewal and then for the delivery.
GRACE = 240
DELIVERY = 2.0  # seconds
LOGIN = orm.User.name, orm.User.encrypted_auth_state


def _has_token(text):
    return "secret-" in text or "narrow-" in text


class Broken(NamedTuple):
    """A promise that was not kept: after which event, when by the event loop's clock, and how."""

    promise: str
    number: int
    time: float
    user: str
    words: str


class LeakFinder(logging.Handler):
    def __init__(self, promises):
        super().__init__(logging.DEBUG)
        self.promises = promises

    def emit(self, record):
        words = record.getMessage()
        if record.exc_info:
            words += "".join(format_exception(*record.exc_info))
        if _has_token(words):
            self.promises.find(7, "", f"a token in the log: {record.msg}")
        if "has to log in again" in words:
            self.promises.see_ended(record.args[0], "the log says so", log=True)


class Promises:
    """What was seen of a world, and which promises that breaks."""

    def __init__(self, world):
        self._world, self._provider, self._clocks = world, world.provider, world.clocks
        self.broken = []
        self.places = {}  # server → the directory that it was started with
        self.mounts = {}
        self._known = set()  # servers whose hook this Hub has seen at their start
        self._found = Counter()
        self._credit = defaultdict(lambda: (3.0, 0.0))  # user → grants that may come, and when
        self._failed = {}  # user → failures in a row, and when the last one was
        self._said = Counter()  # logins of which the log has said that they ended

    def find(self, promise, user, words):
        self._found[str(promise), user, words] += 1
        if self._found[str(promise), user, words] == 1:
            number, now = self._world.number, self._clocks.loop
            self.broken.append(Broken(str(promise), number, now, user, words))

    def begin(self, session):
        self._session = session
        self._known.clear()
        self._failed.clear()
        self._said.clear()
        self._provider.asking.clear()
        for user in session.query(*LOGIN):
            self.excuse(user.name)
            login = self._provider.logins.get(user.name)
            if login and self._read(user).get("refresh_token") != login.refresh_token:
                login.lost = True  # the Hub ended between the provider's answer and its record

    def _read(self, row):
        encrypted = row.encrypted_auth_state
        return CryptKeeper.instance()._decrypt(encrypted) if encrypted else {}

    def is_well(self, user, seconds=GRACE):
        """Whether nothing that may delay this user's tokens happened lately."""
        last = max(self._world.trouble_ends["all"], self._world.trouble_ends[user])
        return self._clocks.loop - last >= seconds

    def is_renewed(self, key):
        """Whether a server should have new tokens: not where what narrowed them is not known."""
        return self.is_known(key) and self.has_login(key[0]) and self.is_well(key[0])

    def is_known(self, key):
        return key in self._known or not self._world.is_narrowed(key)

    def has_login(self, user):
        login = self._provider.logins.get(user)
        return login is not None and not (login.ended or login.lost)

    # -- seen as it happens ----------------------------------------------------------------------

    def hand_over(self, spawner, env):
        key = spawner.key
        self.places[key] = Path(spawner.tokens_directory)
        self.mounts[key] = self._world.mount
        self._known.add(key)
        held = self._hold(key)
        if held != env and not self._world.has("disk", key[0]):
            self.find(1, key[0], "the variable has not what the file has")
        if self.has_login(key[0]) and self.is_well(key[0]):
            asked = min(300, self._world.setting.life / 2) - DELIVERY
            left = self._find_end(held) - self._clocks.provider() if held else 0
            if left < asked:
                self.find(1, key[0], f"handed over with {left:.0f} s to live")

    def excuse(self, user):
        """A renewal may come now that the schedule does not need."""
        credit, at = self._credit[user]
        self._credit[user] = min(5.0, credit + 1), at

    def see_request(self, user):
        number, at = self._failed.get(user, (0, 0))
        if number and self._clocks.loop - at < 0.45 * min(2 ** (number - 1), 60):
            self.find(14, user, f"asked {self._clocks.loop - at:.1f} s after failure {number}")

    def see_failure(self, user):
        number, _ = self._failed.get(user, (0, 0))
        self._failed[user] = number + 1, self._clocks.loop

    def see_grant(self, user):
        self._failed.pop(user, None)
        credit, at = self._credit[user]
        now = self._clocks.provider()
        credit = min(5.0, credit + (now - at) * 5 / self._world.setting.life) - 1
        self._credit[user] = credit, now
        if credit < -1:
            self.find(14, user, "more than five grants in a token's life")

    def see_ended(self, user, words, log=False):
        if self.has_login(user):
            self.find(6, user, f"{words}: not so")
        if log:
            login = self._provider.logins.get(user)
            self._said[login] += 1
            if self._said[login] > 1:
                self.find(6, user, "said twice that the login has ended")

    def see_refusal(self, user, error):
        if isinstance(error, TimeoutError) and not self.is_well(user):
            return  # a hook hangs
        elif not any(words in str(error) for words in ("Log in again", "administrator")):
            self.find(9, user, f"a spawn failed with {type(error).__name__}")
        elif self.has_login(user) and self.is_well(user):
            self.find(9, user, "refused though all is well")

    def see_stop(self, key):
        place = self.places.pop(key, None)
        if place is not None and place.exists():
            self.find(self._label(8, key), key[0], "files are left after a stop")

    def see_error(self, loop, context):
        self.find(10, "", f"{context['message']}: {context.get('exception')!r}")

    # -- looked at -------------------------------------------------------------------------------

    def check(self):
        for row in self._session.query(*LOGIN):
            if row.encrypted_auth_state is not None:
                self._check_login(row)
        for key in self._world.alive - self._world.busy:
            self.check_file(key)
            is_withdrawn = key[0] not in self._provider.logins and self.is_well(key[0])
            if is_withdrawn and self.is_known(key) and self._hold(key):
                self.find(4, key[0], "a file has a token though the Hub has none any more")
            self._check_status(key)
        self._check_left()
        for (state,) in self._session.execute(text("SELECT state FROM spawners")):
            if _has_token(state or ""):
                self.find(7, "", "a token in a Spawner's state")

    def _check_login(self, row):
        name, login = row.name, self._provider.logins[row.name]
        if self.has_login(name) and self.is_well(name) and not self._provider.asking[name]:
            if self._read(row)["refresh_token"] != login.refresh_token:
                self.find(5, name, "the database has a spent refresh token")
            for key in self._world.alive - self._world.busy:
                is_new = self._find_full(self._hold(key)) == login.access_token
                if key[0] == name and self.is_renewed(key) and not is_new:
                    self.find(self._label(4, key), name, "a server has not the newest token")

    def check_file(self, key):
        """Whether a server's file holds what it should, at each step and before each delivery."""
        if key not in self._world.alive or key not in self.places:
            return
        held = self._hold(key)
        if held is None:
            return
        if self._world.is_narrowed(key) and held.startswith("secret-"):
            self.find(12, key[0], "a server with a narrowed token has the login's")
        dead = self._clocks.provider() - self._find_end(held)
        allowed = DELIVERY if self._world.setting.kills else 0
        if dead > allowed and self.is_renewed(key):
            self.find(self._label(2, key), key[0], "a file holds a dead token")

    def _check_status(self, key):
        path = self.places[key] / "login.json"
        if path.exists() and json.loads(path.read_text())["status"] == "login_ended":
            if self.is_well(key[0]):
                self.see_ended(key[0], "a server's status says so")

    def _check_left(self):
        if self.is_well("", 5):
            rows = self._session.query(orm.Spawner.id).filter(orm.Spawner.server_id.is_not(None))
            running = {str(row.id) for row in rows}
            for path in self._world.memory.glob("*/*/*"):
                if path.name.removesuffix(".public") not in running:
                    label = "13" if self._world.setting.moves else 8
                    self.find(label, "", "a directory of a server that does not run")

    def _hold(self, key):
        try:
            return (self.places[key] / "login").read_text()
        except FileNotFoundError:
            return None

    def _find_full(self, token):
        return token and token.replace("narrow-", "secret-")

    def _find_end(self, token):
        return self._provider.ends[self._find_full(token)]

    def _label(self, promise, key):
        """Of a server that another configuration has moved, these are the thirteenth."""
        if self.mounts.get(key) != self._world.mount:
            return 13
        others = any(self._clocks.loop < until + GRACE for (kind, user), until in
                     self._world.troubles.items() if user not in ("all", key[0])
                     and kind != "login")  # fmt: skip
        return 11 if others else promise
