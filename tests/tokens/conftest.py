"""git as a server has it."""

import pytest

from ..support.git import Git


@pytest.fixture
def git(tmp_path):
    return Git(tmp_path)
