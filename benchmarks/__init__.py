"""What spawner_tokens costs and saves, measured: ``python -m benchmarks.<name>``."""
