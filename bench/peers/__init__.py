"""Scripts that run in other tokenizers' environments, and import nothing of ours: see `bench.tokenize_peers`."""
