"""``spawner-tokens doctor`` and ``explain``: what is wrong with a configuration, what a user gets.

- ``command.py``: the two subcommands, and what they print
- ``loading.py``: a configuration, loaded as JupyterHub does it; ``values.py``: as the chart does it
- ``setup.py``: the authenticator and Spawner made of a configuration
- ``examination.py``: the checklist. Its checks are in ``login.py`` (with ``provider.py``),
  ``spawning.py`` and ``servers.py``, its findings in ``finding.py``
- ``explanation.py``: one user's tokens; ``database.py``: the Hub's database, only read

A check is a generator of findings that takes a :class:`~.setup.Setup`. Its docstring is a sentence
that is true when it yields nothing.
"""
