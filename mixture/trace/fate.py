"""Why a document of the index does not stand in a stream: the rules of the recipe, asked one by one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mixture.hashing import draw, fraction
from mixture.index.aligned import Aligned
from mixture.plan.given import Given
from mixture.storage import exists
from mixture.trace.documents import Document, Documents


def fate(documents: Documents, row: Document) -> str:
    """Return why a row of the index was not drawn, as a few words that follow its name.

    Raises:
        StoreError: the column of weights is damaged.
    """
    lock = documents.lock
    content, given = lock.recipe["content"], Given.from_json(lock.given)
    hi, lo = (np.array([int.from_bytes(row.doc_id[at : at + 8], "big")], np.uint64) for at in (0, 8))
    if not row.n_tokens:
        return "not drawn: it has no token"
    held = content["holdout"]
    share = held["domains"].get(row.domain, held["default"]) if isinstance(held, dict) else held
    if draw(0, "holdout", hi, lo)[0] < np.uint64(fraction(share)) and share:
        return f"held out: no plan draws it (holdout: {share:g})"
    weights = documents.folder / f"{lock.work.get('weights', '')}.arrow"
    if (content.get("where") or content.get("weight")) and exists(weights):
        weight = Aligned(weights).between(row.place, row.place + 1)[0]
        if weight == 0:
            rule = "where" if content.get("where") else "weight"
            return f"left out by the recipe's SQL ({rule}: {content[rule]})"
    if given.match_repetition:
        limit = fraction(float(Fraction(given.scale)))
        if draw(content["seed"], "pilot", hi, lo)[0] >= np.uint64(limit):
            return f"not drawn: it is not in the pilot's {given.scale} of the documents"
    return "not drawn: the quota of its domain and length was full before its turn came"
