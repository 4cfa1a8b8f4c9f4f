"""What spawner_tokens costs and saves, measured against JupyterHub without it: ``python -m benchmarks.<name>``."""
