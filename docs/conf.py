"""Sphinx's configuration: ``tox -e docs`` builds the site."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from spawner_tokens import __version__  # noqa: E402
from spawner_tokens.doctor.finding import DOCUMENTATION  # noqa: E402

project = "spawner_tokens"
author = "spawner_tokens contributors"
copyright = author
version = release = __version__

extensions = [
    "autodoc_traits",
    "generated",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinxext.opengraph",
]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # of docstrings
highlight_language = "none"
copybutton_prompt_text = "$ "

html_theme = "sphinx_book_theme"
html_theme_options = {"navbar_persistent": []}  # the sidebar has the search
html_title = project
html_baseurl = ogp_site_url = DOCUMENTATION
html_static_path = ["_static"]
html_copy_source = False
ogp_social_cards = {"enable": False}
