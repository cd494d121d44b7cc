"""`mixture tokenize`."""

from mixture.cli.common import (
    CORES,
    DATA,
    WORK,
    Data,
    Debug,
    Json,
    LockPath,
    RecipePath,
    Work,
    Workers,
    session,
    show,
)

EXAMPLE = "Example:  mixture tokenize manifests/quickstart.yaml --workers 2"


def command(
    recipe: RecipePath,
    work: Work = WORK,
    data: Data = DATA,
    workers: Workers = CORES,
    lock: LockPath = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Read the corpora, identify each document, tokenize once into the token store."""
    with session(recipe, work=work, data=data, workers=workers, lock=lock, debug=debug) as job:
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
            "read": list(store.made),
        }
        text = (
            f"{store.documents:,} documents, {store.tokens:,} tokens from {store.bytes:,} bytes of text\n"
            f"store in {store.folder}\n"
            f"tokenizer {store.tokenizer.name}, engine {store.tokenizer.engine}"
        )
        if store.rejected:
            text += "\nrejected: " + ", ".join(f"{n:,} {reason}" for reason, n in store.rejected.items())
        show(as_json, summary, text, "next: mixture bucket " + str(recipe))
