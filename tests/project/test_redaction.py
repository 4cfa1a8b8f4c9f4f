"""What is said of an error: the system's words for it, and nothing that may hold a token."""

import errno
import os
import ssl

import pytest
from pytest import param

from spawner_tokens.redaction import describe_error

SECRET = "the-token"


@pytest.mark.parametrize(
    "error, words",
    [
        param(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), SECRET), "No space left", id="full"),
        param(OSError(errno.ENOSPC, SECRET), "OSError", id="own-words"),
        param(OSError(SECRET), "OSError", id="no-number"),
        param(OSError({}, SECRET), "OSError", id="no-number-at-all"),
        param(OSError(2**40, SECRET), "OSError", id="too-large-a-number"),
        param(ssl.SSLError(1, SECRET), "SSLError", id="another-number"),
        param(ValueError(SECRET), "ValueError", id="not-the-systems"),
    ],
)
def test_an_error_is_described_by_the_systems_words_at_most(error, words):
    text = describe_error(error)
    assert words in text and SECRET not in text
    assert ("(" in text) == (words == "No space left")
