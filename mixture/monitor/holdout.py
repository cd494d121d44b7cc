"""Loss on documents that were held out, by domain × length of the document × position in it.

    a document of books, 9,000 tokens       length 4K-16K
    its tokens 1 … 255                      position <256           mean loss 3.1
               256 … 1,023                  position 256-1K                   2.9
               1,024 … 4,095                position 1K-4K                    2.8
               4,096 … 8,999                position ≥4K                      2.7

Where long context helps, loss goes on falling with the position; by domain, since code and books differ, and by length,
since the documents that have a token 50,000 are not those that have a token 500.

Every document is scored on its own, from its beginning, as it is trained on with document masks; what of it is longer
than the model's window is left out, so each token has all of its document before it. The documents of a cell of
domain × length are the first in the order of their ids, which are hashes: a random sample, and at every checkpoint the
same one. The price of the same number from each cell: the means over cells weigh what was scored, not the mixture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.loader import Spans
from mixture.loader.stream import Stream
from mixture.monitor.losses import CHUNK, PLACES, Floats, Ints, token_losses
from mixture.monitor.measures import Measure
from mixture.monitor.probability import pooled
from mixture.monitor.subject import Subject
from mixture.monitor.unseen import HeldOut
from mixture.recipe import bucket_names
from mixture.train.breakdown import Cells

TASK = "holdout"
#: Where buckets of positions end.
POSITIONS = (256, 1024, 4096, 16_384, 65_536)
#: Documents of a cell of domain × length.
EACH = 64
#: Documents that are looked at for them.
LOOK = 100_000


@dataclass(frozen=True)
class Piece:
    """A stretch of a document that is scored by itself.

    Attributes:
        document: pieces of one document share it, and no others.
        domain: of the document.
        length: the document's own tokens, all of them.
        offset: which of them `tokens` begins with, negative in what opens a document.
        tokens: int64, shape (n,).
    """

    document: int
    domain: str
    length: int
    offset: int
    tokens: Ints


@dataclass(frozen=True)
class Tallies:
    """Sums over the tokens of each document, by position.

    Attributes:
        domains: of each document.
        lengths: the number of its bucket of lengths, int64, shape (documents,).
        sums: of losses, in nats, shape (documents, positions).
        counts: of tokens, shape as sums.
    """

    domains: tuple[str, ...]
    lengths: Ints
    sums: Floats
    counts: Floats


def sample(
    documents: Iterable[HeldOut],
    *,
    window: int,
    lengths: Sequence[int],
    opening: Sequence[int] = (),
    each: int = EACH,
    look: int = LOOK,
) -> list[Piece]:
    """Choose documents to be scored.

    Args:
        documents: that were held out, in the order of their ids: `unseen.held_out`.
        window: places that the model sees at once; longer documents are cut there.
        lengths: where buckets of lengths end, rising.
        opening: tokens that open a document for this model (`Codec.opening`); without any, a document's first token is
            not scored.
        each: documents of a cell of domain × length.
        look: documents that are looked at; then cells stay as full as they are.

    Raises:
        MonitorError: there is no document, or no room for two tokens in the window.
    """
    if window < len(opening) + 2:
        raise MonitorError(f"{TASK}: a window of {window} tokens scores nothing; give a larger one")
    edges, start = np.array(lengths, np.int64), np.array(opening, np.int64)
    taken: Counter[tuple[str, int]] = Counter()
    out: list[Piece] = []
    for number, document in enumerate(documents):
        if number == look:
            break
        size = len(document.tokens)
        cell = document.domain, int(np.searchsorted(edges, size, side="right"))
        if taken[cell] >= each or size + len(start) < 2:
            continue
        taken[cell] += 1
        tokens = np.concatenate([start, document.tokens[: window - len(start)]])
        out.append(Piece(number, document.domain, size, -len(start), tokens))
    if not out:
        raise MonitorError(f"{TASK}: no document was held out; set `holdout` in the recipe, or pack a mixture to score")
    return out


def pieces_of(stream: Stream, first: int = 0, stop: int | None = None) -> Iterator[Piece]:
    """Yield what stands in sequences of a packed mixture that was set apart for this, span by span.

    A document that goes on from another sequence is a piece of its own, without what stood before.

    Args:
        stream: the mixture's.
        first: the first sequence.
        stop: the last + 1; all by default.

    Raises:
        StoreError: a shard is damaged.
    """
    number, expected = -1, ("", 0, 0)
    for sequence in range(first, len(stream) if stop is None else min(stop, len(stream))):
        found = stream.rows(np.array([sequence]))
        spans = found.spans
        for at, (start, end) in enumerate(zip(spans.start.tolist(), spans.stop.tolist(), strict=True)):
            domain, length = stream.domains[spans.domain[at]], int(spans.doc_length[at])
            offset = int(spans.doc_offset[at])
            # The last document of a row may go on in the next; rows number their documents anew.
            number += bool(at) or (domain, length, offset) != expected
            expected = domain, length, offset + end - start
            # Rows lie in memory that is lent again.
            yield Piece(number, domain, length, offset, found.tokens[0, start:end].copy())


def tally(
    subject: Subject,
    pieces: Sequence[Piece],
    *,
    lengths: Sequence[int],
    positions: Sequence[int] = POSITIONS,
    chunk: int = CHUNK,
    places: int = PLACES,
) -> Tallies:
    """Return the losses of pieces, summed up by document and position.

    Args:
        subject: the model.
        pieces: what is scored; of each, all tokens but the first.
        lengths: where buckets of lengths end, rising.
        positions: where buckets of positions end, rising.
        chunk: places that have logits at the same time.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: as `token_losses`.
    """
    losses = token_losses(subject, [piece.tokens for piece in pieces], chunk=chunk, places=places)
    cells = Cells(domains=("",), edges=tuple(positions))
    rows: dict[int, int] = {}
    for piece in pieces:
        rows.setdefault(piece.document, len(rows))
    sums, counts = np.zeros((len(rows), cells.size)), np.zeros((len(rows), cells.size))
    domains, sizes = [""] * len(rows), np.zeros(len(rows), np.int64)
    for piece, found in zip(pieces, losses, strict=True):
        row = rows[piece.document]
        domains[row], sizes[row] = piece.domain, piece.length
        # The loss of token p + 1 is that of place p, and so is its cell.
        cell = cells.of(_span(piece), len(piece.tokens))[0, :-1]
        sums[row] += np.bincount(cell, found, cells.size)
        counts[row] += np.bincount(cell, minlength=cells.size)
    bucket = np.searchsorted(np.array(lengths, np.int64), sizes, side="right")
    return Tallies(tuple(domains), bucket, sums, counts)


def holdout(
    subject: Subject,
    pieces: Sequence[Piece],
    *,
    lengths: Sequence[int],
    positions: Sequence[int] = POSITIONS,
    places: int = PLACES,
) -> list[Measure]:
    """Return hold-out loss, in nats a token, by domain × length bucket × position bucket.

    Rows of the table: `loss` with `cell` "length 4K-16K, position <256", and over either of the two ("length 4K-16K",
    "position <256"); `loss` and `perplexity`, exp of it, of each domain, and of all together (no domain). Means are
    over tokens; intervals are bootstrapped over documents.

    Args:
        subject: the model.
        pieces: what is scored, at least one of two tokens or more.
        lengths: where buckets of lengths end, rising, as the recipe's `buckets`.
        positions: where buckets of positions end, rising.
        places: places that run through the model at the same time.

    Raises:
        MonitorError: there is nothing to score; and as `token_losses`.
    """
    found = tally(subject, pieces, lengths=lengths, positions=positions, places=places)
    if not found.counts.any():
        raise MonitorError(f"{TASK}: no token can be scored; give documents of at least two tokens")
    out: list[Measure] = []
    for domain in ("", *sorted(set(found.domains))):
        own = np.array([domain in ("", name) for name in found.domains])
        out += _of_domain(subject, found, domain, own, bucket_names(tuple(lengths)), bucket_names(tuple(positions)))
    return out


def _of_domain(
    subject: Subject,
    found: Tallies,
    domain: str,
    own: npt.NDArray[np.bool_],
    lengths: Sequence[str],
    positions: Sequence[str],
) -> Iterator[Measure]:
    """Yield the rows of one domain, or of all: the whole, either margin, and the cells."""
    all_places = np.ones(len(positions), np.bool_)
    cuts = [("", own, all_places)]
    by_length = [(name, own & (found.lengths == number)) for number, name in enumerate(lengths)]
    by_position = [(name, np.arange(len(positions)) == number) for number, name in enumerate(positions)]
    cuts += [(f"length {name}", rows, all_places) for name, rows in by_length]
    cuts += [(f"position {name}", own, places) for name, places in by_position]
    cuts += [
        (f"length {length}, position {position}", rows, places)
        for length, rows in by_length
        for position, places in by_position
    ]
    for cell, rows, places in cuts:
        counts = found.counts[rows][:, places].sum(axis=1)
        some = counts > 0
        if not some.any():
            continue
        sums, counts = found.sums[rows][:, places].sum(axis=1)[some], counts[some]
        yield pooled(subject, TASK, "loss", sums, counts, domain=domain, cell=cell)
        if not cell:
            yield pooled(subject, TASK, "perplexity", sums, counts, domain=domain, exponent=True)


def _span(piece: Piece) -> Spans:
    """Return a piece as the only span of a row, of the only domain."""
    one, none = np.zeros(1, np.int64), np.empty(0, np.int64)
    return Spans(
        start=one,
        stop=one + len(piece.tokens),
        doc_offset=one + piece.offset,
        doc_length=one + piece.length,
        document=one,
        borders=np.array([0, 1]),
        marks=none,
        mark_borders=np.zeros(2, np.int64),
        domain=one,
    )
