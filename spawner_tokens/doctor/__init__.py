"""``spawner-tokens doctor`` and ``explain``: what is wrong with a configuration, and what one user would get by it.

- ``command.py``: the two subcommands
- ``loading.py``: a configuration, loaded as JupyterHub does it; ``values.py``: as the chart does it; ``setup.py``: the authenticator and Spawner made of it
- ``finding.py``: a finding as data; ``examination.py``: all checks; ``report.py``: for people and machines
- checks: ``versions.py``, ``classes.py``, ``login.py`` and ``scopes.py`` with ``provider.py``, ``refreshing.py``,
  ``spawning.py``, ``overrides.py``, ``hooks.py`` with ``source.py`` and ``taint.py``, ``engines.py``
- ``database.py``: the Hub's database, read and never written; ``explanation.py``: one user's tokens, without a value

A check is a generator of findings that takes a :class:`~.setup.Setup`, with a sentence for its docstring that is true
where it finds nothing. To add one, add it to ``CHECKS`` in ``examination.py`` and a row to a table of ``tests/test_doctor*.py``.
"""
