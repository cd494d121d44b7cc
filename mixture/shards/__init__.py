"""Shards: the written stream. One place copies tokens; one place checks what came of it."""
