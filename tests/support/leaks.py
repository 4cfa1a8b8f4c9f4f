"""A search for a token everywhere that somebody might look."""

import base64
import os
from contextlib import suppress
from pathlib import Path

# Tests that run beside these plant theirs.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
ACCESS, REFRESH = f"s3cret-access-{_WORKER}token-e5f1", f"s3cret-refresh-{_WORKER}token-7b20"
AUTH_STATE = {
    "access_token": ACCESS,
    "refresh_token": REFRESH,
    "scope": ["read"],
    "token_response": {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 7200},
}


def needles(secrets):
    for secret in secrets:
        yield secret.encode()
        yield secret.encode().hex().encode()
        for shift in range(3):  # base64 of a text that begins anywhere
            encoded = base64.b64encode(b"x" * shift + secret.encode())
            yield encoded[4:-4]


def search(places, *secrets):
    """The names of the places (name → bytes) where a token is, or else one of these secrets."""
    wanted = [*needles(secrets or (ACCESS, REFRESH))]
    return sorted(
        name for name, contents in places.items() if any(needle in contents for needle in wanted)
    )


def process_arguments():
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found[f"arguments of {path.name}"] = (path / "cmdline").read_bytes()
        except OSError:  # it has ended
            pass
    return found


async def places(hub, user, log, error=None):
    """Everywhere that somebody else might look."""
    spawner = user.spawners.get("")
    hub.app.db.commit()
    found = {
        "log": log.text.encode(),
        "repr": repr(
            (spawner, getattr(spawner, "orm_spawner", None), user, user.orm_user)
        ).encode(),
        "error": f"{error!r} {error} {getattr(error, '__dict__', '')}".encode(),
        **process_arguments(),
    }
    if spawner is not None:
        found["state"] = repr(
            (spawner.get_state(), spawner.orm_spawner.state, spawner.user_options)
        ).encode()
        found["traits"] = repr(
            {name: getattr(spawner, name) for name in spawner.trait_names() if name != "db"}
        ).encode()
        found["instance"] = repr(vars(spawner)).encode()
    for place, _, names in os.walk(os.getcwd()):  # the database with its journal, homes
        for name in names:
            with suppress(OSError):  # it has gone
                found[name] = Path(place, name).read_bytes()
    return found
