"""Shards in the formats of other trainers: same tokens, same boundaries, checked against the lock on the way.

    shard-00000-of-00002.arrow ─ check hash ─ write ─► shard-00000-of-00002.bin, .idx     (megatron)
    shard-00001-of-00002.arrow ─ check hash ─ write ─► shard-00001-of-00002.bin, .idx
                                               finish ─► blend.txt, export.json

A new format is one module with a `FORMAT` and one line here.
"""

from __future__ import annotations

from mixture.export import fu, mds, megatron, olmo, parquet
from mixture.export.format import Format

FORMATS: dict[str, Format] = {
    "megatron": megatron.FORMAT,
    "mds": mds.FORMAT,
    "olmo": olmo.FORMAT,
    "fu": fu.FORMAT,
    "parquet": parquet.FORMAT,
}
