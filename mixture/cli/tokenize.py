"""`mixture tokenize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixture.cli.common import Show, on_recipe

if TYPE_CHECKING:
    from mixture.flow import Job

EXAMPLE = "Example:  mixture tokenize manifests/quickstart.yaml --workers 2"


@on_recipe(stages=("tokenize",))
def command(job: Job, show: Show) -> None:
    """Read the corpora, identify each document, tokenize once into the token store."""
    store = job.tokenize()
    summary = {
        "store": str(store.folder),
        "tokenizer": {
            "name": store.tokenizer.name,
            "fingerprint": store.tokenizer.fingerprint,
            "engine": store.tokenizer.engine,
        },
        "inputs": sum(len(unit.files) for unit in store.units),
        "parts": len(store.parts),
        "documents": store.documents,
        "tokens": store.tokens,
        "bytes": store.bytes,
        "rejected": store.rejected,
        "joined_rows": store.joined_rows,
        "read": list(store.made),
    }
    text = (
        f"{store.documents:,} documents, {store.tokens:,} tokens from {store.bytes:,} bytes of text\n"
        f"store in {store.folder}\n"
        f"tokenizer {store.tokenizer.name}, engine {store.tokenizer.engine}"
    )
    if store.joins:
        made = sum(join.documents for join in store.joins)
        text += f"\njoined: {store.joined_rows:,} rows into {made:,} documents"
    if store.rejected:
        text += "\nrejected: " + ", ".join(f"{n:,} {reason}" for reason, n in store.rejected.items())
    show(summary, text, f"next: mixture bucket {job.path}")
