"""``spawner-tokens doctor`` and ``explain``: what is wrong with a configuration, what a user gets.

- ``command.py``: the two subcommands; ``report.py``: their output, for people and as JSON
- ``loading.py``: a configuration, loaded as JupyterHub does it; ``values.py``: as the chart does it
- ``setup.py``: the authenticator and Spawner made of a configuration
- ``finding.py``: a finding as data, and the table of all findings
- ``examination.py``: the checklist. The checks are in ``login.py`` (with ``provider.py``),
  ``scopes.py``, ``refreshing.py``, ``spawning.py``, ``hooks.py`` and ``kubernetes.py``
- ``explanation.py``: one user's tokens; ``database.py``: the Hub's database, only read

A check is a generator of findings that takes a :class:`~.setup.Setup`. Its docstring is a sentence
that is true when it yields nothing. To add one, add it to ``CHECKS`` in ``examination.py``, its
finding to ``WHY`` in ``finding.py``, and a row to ``tests/doctor/test_findings.py``.
"""
