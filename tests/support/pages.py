"""The README and the pages of the documentation, and the examples in them."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from traitlets.config.loader import PyFileConfigLoader

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/"): path.read_text()
    for path in (ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst")))
}


def blocks(language, page=""):
    """The examples in a language, on all pages or on one, each with where it is as its id."""
    for name, text in PAGES.items():
        found = re.finditer(
            rf"^( *)\.\. code-block:: {language}\n\n((?:\1    .*\n|\n)+)", text, re.MULTILINE
        )
        for match in found if page in ("", name) else ():
            heading = re.findall(r"^(.+)\n[=-]{3,}$", text[: match.start()], re.MULTILINE)[-1:]
            line = text[: match.start()].count("\n") + 1
            yield pytest.param(dedent(match[2]), id=f"{name}, {''.join(heading)}, line {line}")


def load(code, tmp_path):
    path = tmp_path / "block.py"  # not a name that a Hub of this folder would read
    path.write_text(code)
    return PyFileConfigLoader(str(path)).load_config()
