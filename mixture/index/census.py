"""The census: documents and tokens by domain and length; small enough for git."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture import schemas
from mixture.storage import Place
from mixture.storage.tables import open_parquet

_BITS = 64


@dataclass(frozen=True)
class CensusRow:
    """Documents of one domain whose length in tokens lies in [2^log2, 2^(log2+1))."""

    domain: str
    log2: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class Census:
    """All rows, by domain, then by length."""

    cells: tuple[CensusRow, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains in alphabetical order."""
        return tuple(sorted({cell.domain for cell in self.cells}))

    def rows(self) -> list[dict[str, Any]]:
        """Return the census as JSON-able rows."""
        return [cell.__dict__ for cell in self.cells]

    @staticmethod
    def from_rows(rows: Sequence[dict[str, Any]]) -> Census:
        """Read what `rows` wrote."""
        return Census(tuple(CensusRow(**row) for row in rows))


def take_census(index: Place) -> Census:
    """Sum an index; a document of no tokens counts as of length 1."""
    sums: dict[str, npt.NDArray[np.int64]] = {}
    with open_parquet(index, read_dictionary=["domain"]) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, ["domain", "n_tokens"])
            codes, domains = schemas.coded(table["domain"])
            tokens = schemas.numbers(table["n_tokens"])
            # What frexp calls the exponent is the number of bits.
            place = codes * _BITS + np.frexp(np.maximum(tokens, 1))[1] - 1
            # Sums in floating point are exact below 2^53, and a row group's are far below that.
            found = [np.bincount(place, values, len(domains) * _BITS) for values in (None, tokens)]
            parts = np.stack(found, axis=1).astype(np.int64).reshape(len(domains), _BITS, 2)
            for domain, part in zip(domains.to_pylist(), parts, strict=True):
                sums[domain] = sums.get(domain, 0) + part
    return Census(
        tuple(
            CensusRow(domain, log2, *sums[domain][log2].tolist())
            for domain in sorted(sums)
            for log2 in np.flatnonzero(sums[domain][:, 0]).tolist()
        )
    )
