"""Shards: the written stream. One place copies tokens, one place reads them back."""
