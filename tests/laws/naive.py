"""The laws, counted from shards, lock and corpus alone: token by token, without the library's plan and packings."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixture.hashing import draw, fraction
from mixture.loader import Spans
from mixture.loader.geometry import cu_seqlens, labels, position_ids
from tests.conftest import Built, Document
from tests.laws.at_random import Told

#: A copy of a document: id, domain, number.
Copy = tuple[bytes, str, int]


@dataclass(frozen=True)
class Row:
    """A sequence: its shard, tokens, spans and marks."""

    shard: int
    ids: list[int]
    spans: list[dict[str, Any]]
    marks: list[int]


def copy_of(span: dict[str, Any]) -> Copy:
    return span["doc_id"], span["domain"], span["copy"]


def size_of(span: dict[str, Any]) -> int:
    return int(span["stop"] - span["start"])


def rows_of(built: Built) -> list[Row]:
    numbers = [n for n, shard in enumerate(built.lock.shards) for _ in range(shard["sequences"])]
    rows = built.table().to_pylist()
    return [Row(n, row["input_ids"], row["spans"], row.get("marks", [])) for n, row in zip(numbers, rows, strict=True)]


def check(built: Built, told: Told, docs: list[Document]) -> list[Row]:
    """Claim every law of a build; return its sequences."""
    rows, index = rows_of(built), told.index(docs)
    for row in rows:
        check_row(row, told, index, built.lock.tokenizer.get("knots"))
    stretches = check_copies(built, told, index, rows)
    check_packing(built, told, stretches, rows)
    if "split" not in told.packing["kind"]:  # Its pieces of one document may lie side by side.
        check_facts(built, told, index, rows)
        if "utk" in told.transform:
            check_knots(rows, built.lock.tokenizer["knots"])
    check_masks(built, rows)
    return rows


def check_row(row: Row, told: Told, index: dict[tuple[bytes, str], Any], knots: dict[str, Any] | None) -> None:
    """Claim that each place holds one thing: a token of a document or its separators, a mark, or padding."""
    prefix, suffix = told.around
    free = dict(enumerate(row.ids))
    last = 0
    assert row.spans
    for span in row.spans:
        assert last <= span["start"] < span["stop"] <= told.length
        assert span["start"] % told.align == 0
        last = span["stop"]
        text = index[span["doc_id"], span["domain"]][0]
        assert span["doc_length"] == len(text)
        framed, at = [*prefix, *text, *suffix], span["doc_offset"] + len(prefix)
        assert 0 <= at <= len(framed) - size_of(span)
        assert row.ids[span["start"] : last] == framed[at : at + size_of(span)]
        for place in range(span["start"], last):
            del free[place]
    assert len(row.marks) <= told.room
    assert row.marks == sorted(set(row.marks))
    for place in row.marks:
        first, count = (knots or {})["trace"] or (0, 0)
        assert free.pop(place) in {(knots or {})["head"], (knots or {})["tail"], *range(first, first + count)}
    assert not any(free.values())


def check_copies(
    built: Built, told: Told, index: dict[tuple[bytes, str], Any], rows: list[Row]
) -> dict[Copy, list[tuple[int, int, int]]]:
    """Claim that each granted token is written once, quotas are exact, caps hold and fresh text comes first.

    Returns:
        The stretches of each copy: first offset, past the last, sequence.
    """
    phase, around = built.lock.phases[0], told.around
    places: dict[Copy, list[tuple[int, int, int]]] = defaultdict(list)
    for number, row in enumerate(rows):
        for span in row.spans:
            places[copy_of(span)].append((span["doc_offset"], span["doc_offset"] + size_of(span), number))
    written: Counter[tuple[str, int]] = Counter()
    cut: Counter[tuple[str, int]] = Counter()
    times: Counter[tuple[bytes, str]] = Counter()
    for (doc, domain, _), found in places.items():
        found.sort()
        assert found[0][0] == -len(around[0])
        assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
        length = len(index[doc, domain][0])
        cell = domain, bisect_right(told.edges, length)
        written[cell] += found[-1][1] - found[0][0]
        cut[cell] += found[-1][1] != length + len(around[1])
        times[doc, domain] += 1
    cells = itertools.groupby(phase["cells"], key=lambda cell: cell["domain"])
    for domain, buckets in cells:
        for bucket, cell in enumerate(buckets):
            here = domain, bucket
            assert cell["granted"] == cell["written"] == written.pop(here, 0)
            assert cell["cut"] == cut[here] <= 1
            counts = _appearances(built, told, index, times, here)
            assert max(counts, default=0) - min(counts, default=0) <= 1, "fresh text comes first"
            assert max(counts, default=0) <= cell["cap"] or not cell["granted"]
    assert not written
    assert phase["stream"]["tokens"] == told.budget // told.length * told.length
    for (doc, domain), count in times.items():
        if index[doc, domain][1] == 1:
            assert all((doc, domain, number) in places for number in range(count))
    return places


def _appearances(
    built: Built,
    told: Told,
    index: dict[tuple[bytes, str], Any],
    times: Counter[tuple[bytes, str]],
    cell: tuple[str, int],
) -> list[int]:
    """How often each document of a cell appears, those that are held out left out; equal texts count each."""
    share, counts = built.lock.recipe["content"]["holdout"], []
    for (doc, domain), (text, equal) in index.items():
        words = [np.array([int.from_bytes(doc[at : at + 8], "big")], np.uint64) for at in (0, 8)]
        held_out = bool(share) and draw(0, "holdout", *words)[0] < np.uint64(fraction(share))
        if held_out:
            assert not times[doc, domain]
        elif (domain, bisect_right(told.edges, len(text))) == cell:
            counts += [times[doc, domain] // equal, -(-times[doc, domain] // equal)]
    return counts


def check_packing(built: Built, told: Told, places: dict[Copy, list[tuple[int, int, int]]], rows: list[Row]) -> None:
    """Claim what each packing says of documents."""
    kind, room = told.packing["kind"], told.length - told.room
    filled = [sum(map(size_of, row.spans)) for row in rows]
    assert max(filled) <= room
    if kind == "vsl":
        _check_vsl(built, told, rows, filled)
    if kind == "concat" and told.align == 1 and not told.room:
        assert set(filled) == {told.length}
    if kind not in ("best-fit", "intact"):
        return
    for found in places.values():
        size = -(-(found[-1][1] - found[0][0]) // told.align) * told.align
        held = Counter({number: 0 for _, _, number in found})
        for first, stop, number in found:
            held[number] += stop - first
        assert len({rows[number].shard for number in held}) == 1, "whole in its window"
        alone = sum(-(-tokens // told.align) * told.align == room and tokens == filled[n] for n, tokens in held.items())
        assert alone >= size // room, "long documents make sequences of their own"
        if kind == "best-fit":
            assert len(held) == -(-size // room), "what fits is not cut"


def _check_vsl(built: Built, told: Told, rows: list[Row], filled: list[int]) -> None:
    """Claim that batches are pure, and that as many there are as pieces of their size make."""
    batch, smallest = told.packing["batch"], told.packing["smallest"]
    for shard in range(len(built.lock.shards)):
        mine = [row for row in rows if row.shard == shard]
        sizes: Counter[Copy] = Counter()
        for span in itertools.chain.from_iterable(row.spans for row in mine):
            sizes[copy_of(span)] += size_of(span)
        pieces = Counter({told.length: sum(size // told.length for size in sizes.values())})
        for power in range(smallest.bit_length() - 1, told.length.bit_length() - 1):
            pieces[1 << power] = sum(size >> power & 1 for size in sizes.values())
        whole = {size: count * size // told.length // batch * batch for size, count in pieces.items()}
        found: Counter[int] = Counter()
        for first in range(0, sum(whole.values()), batch):
            kinds = {size_of(span) for row in mine[first : first + batch] for span in row.spans}
            assert len(kinds) == 1
            found[kinds.pop()] += batch
        assert found == Counter({size: count for size, count in whole.items() if count})
    assert sum(tokens < told.length for tokens in filled) <= 1


def check_facts(built: Built, told: Told, index: dict[tuple[bytes, str], Any], rows: list[Row]) -> None:
    """Claim that the lock says of the packing what is counted here; what a transform cut is taken as one piece."""
    pieces: list[tuple[int, Copy, int, int]] = []
    for row in rows:
        parts: dict[Copy, list[tuple[int, int]]] = defaultdict(list)
        for span in row.spans:
            parts[copy_of(span)].append((span["doc_offset"], size_of(span)))
        if not told.transform:
            pieces += [(len(row.spans), copy_of(span), span["doc_offset"], size_of(span)) for span in row.spans]
            continue
        pieces += [(len(parts), key, min(held)[0], sum(size for _, size in held)) for key, held in parts.items()]
    ends = {key: len(index[key[:2]][0]) + len(told.around[1]) for _, key, _, _ in pieces}
    begun = [(key, first + size) for _, key, first, size in pieces if first == -len(told.around[0])]
    said = built.lock.phases[0]["packing"]
    assert said["single"] == sum(count == 1 for count, *_ in pieces)
    assert (said["sequences"], said["places"]) == (len(rows), len(rows) * told.length)
    assert (said["pieces"], said["cuts"]) == (len(pieces), len(pieces) - len(begun))
    assert said["context"] == sum(size * (size - 1) // 2 for *_, size in pieces)
    assert said["cost"] == sum(size * size for *_, size in pieces)
    assert said["marks"] == sum(len(row.marks) for row in rows)
    for name, held in said["domains"].items():
        mine = [(key, stop) for key, stop in begun if key[1] == name]
        assert held == {"documents": len(mine), "truncated": sum(stop != ends[key] for key, stop in mine)}


def check_knots(rows: list[Row], knots: dict[str, Any]) -> None:
    """Claim that marks stand where documents are torn, and traces name the parts."""
    for row in rows:
        parts: dict[Copy, list[int]] = defaultdict(list)
        for number, span in enumerate(row.spans):
            parts[copy_of(span)].append(number)
        torn = [number for number, span in enumerate(row.spans) if len(parts[copy_of(span)]) > 1]
        first, count = knots["trace"] or (0, 0)
        at, expected = 0, []
        for number, span in enumerate(row.spans):
            mine = parts[copy_of(span)]
            if number != mine[0]:
                expected.append((at, knots["head"]))
            assert span["start"] == at + (number != mine[0])
            at = span["stop"]
            after = [first + torn.index(part) for part in mine] if len(mine) > 1 and number == mine[-1] else []
            after = after if max(after, default=0) < first + count else []
            after = [knots["tail"]] if number != mine[-1] else after
            expected += list(enumerate(after, at))
            at += len(after)
        assert expected == [(place, row.ids[place]) for place in row.marks]


def check_masks(built: Built, rows: list[Row]) -> None:
    """Claim that nothing crosses a document when masks are on, on the first rows."""
    table, some = built.table().slice(0, 6), rows[:6]
    spans = Spans.of(table["spans"], table["marks"] if "marks" in table.column_names else None)
    length = len(some[0].ids)
    owners = [_owners(row, length) for row in some]
    cuts = [r * length + p for r, own in enumerate(owners) for p in range(length) if not p or own[p] != own[p - 1]]
    assert cu_seqlens(spans, length).tolist() == [*cuts, len(some) * length]
    position = [place - max(cut for cut in cuts if cut <= place) for place in range(len(some) * length)]
    assert position_ids(spans, length, reset=True).flatten().tolist() == position
    ids = np.array([row.ids for row in some], np.int64)
    wanted = [_labels(row) for row in some]
    assert labels(ids, spans, mask_starts=True, shift=False).tolist() == wanted


def _owners(row: Row, length: int) -> list[int]:
    """Which span each place belongs to, the marks before and after it included; -1 for padding."""
    owner, marks, before = [-1] * length, set(row.marks), set()
    for number, span in enumerate(row.spans):
        owner[span["start"] : span["stop"]] = [number] * size_of(span)
    for number, span in enumerate(row.spans):
        if copy_of(span) in before and span["start"] - 1 in marks:
            owner[span["start"] - 1] = number
        before.add(copy_of(span))
    for number, span in enumerate(row.spans):
        place = span["stop"]
        while place in marks and owner[place] < 0:
            owner[place] = number
            place += 1
    return owner


def _labels(row: Row) -> list[int]:
    real = {place for span in row.spans for place in range(span["start"] + 1, span["stop"])}
    return [token if place in real else -100 for place, token in enumerate(row.ids)]
