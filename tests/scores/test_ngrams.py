"""N-grams are found exactly: against an implementation that a reader can check by eye."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture.scores import ngrams
from mixture.scores.ngrams import Finder, Hits, gather, least_whole, shared, window_hashes

Texts = list[list[int]]
# Few different tokens: n-grams repeat, inside a text and between texts.
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=40), min_size=1, max_size=8)


def flat(texts: Texts, kind: type = np.uint32) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array([token for text in texts for token in text], kind)
    return tokens, np.cumsum([0, *map(len, texts)])


def find(documents: Texts, texts: Texts, ngram: int, kind: type = np.uint32) -> Hits:
    return Finder(gather(*flat(texts), ngram)).find(*flat(documents, kind))


def naive(document: list[int], texts: Texts, ngram: int) -> dict[int, int]:
    """Each place of a document where something wanted begins, and the longest such thing."""
    wanted = {tuple(text[at : at + ngram]) for text in texts for at in range(len(text) - ngram + 1)}
    wanted |= {tuple(text) for text in texts if least_whole(ngram) <= len(text) < ngram}
    sizes = {len(one) for one in wanted}
    starts = ((at, size) for at in range(len(document)) for size in sorted(sizes))
    return {at: size for at, size in starts if tuple(document[at : at + size]) in wanted and at + size <= len(document)}


def expected(documents: Texts, texts: Texts, ngram: int) -> dict[int, int]:
    starts = np.cumsum([0, *map(len, documents)])
    return {
        int(start) + at: size
        for start, document in zip(starts[:-1], documents, strict=True)
        for at, size in naive(document, texts, ngram).items()
    }


def as_dict(hits: Hits) -> dict[int, int]:
    return dict(zip(hits.at.tolist(), hits.size.tolist(), strict=True))


@given(documents=TEXTS, texts=TEXTS, ngram=st.integers(4, 16), kind=st.sampled_from([np.uint16, np.uint32]))
def test_every_shared_ngram_is_found_and_nothing_else(documents: Texts, texts: Texts, ngram: int, kind: type) -> None:
    assert as_dict(find(documents, texts, ngram, kind)) == expected(documents, texts, ngram)


@given(documents=TEXTS, texts=TEXTS, ngram=st.integers(4, 12), windows=st.integers(1, 9))
def test_where_one_batch_ends_and_the_next_begins_changes_nothing(
    documents: Texts, texts: Texts, ngram: int, windows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_WINDOWS", windows)
        patch.setattr(ngrams, "_COMPARED", windows)
        assert as_dict(find(documents, texts, ngram)) == expected(documents, texts, ngram)


@given(documents=TEXTS, texts=TEXTS, ngram=st.integers(4, 12))
def test_equal_hashes_of_different_ngrams_mislead_nobody(documents: Texts, texts: Texts, ngram: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # The hash is then the sum of the tokens, the same for many n-grams.
        patch.setattr(ngrams, "_MULTIPLIER", 1)
        patch.setattr(ngrams, "_INVERSE", 1)
        assert as_dict(find(documents, texts, ngram)) == expected(documents, texts, ngram)


@given(documents=TEXTS, texts=TEXTS, ngram=st.integers(4, 12))
def test_a_hit_names_the_first_place_where_its_tokens_stand(documents: Texts, texts: Texts, ngram: int) -> None:
    tokens, _ = flat(documents)
    hits, (wanted, offsets) = find(documents, texts, ngram), flat(texts)
    for at, place, size in zip(hits.at.tolist(), hits.place.tolist(), hits.size.tolist(), strict=True):
        piece = tokens[at : at + size].tolist()
        assert wanted[place : place + size].tolist() == piece
        text = int(np.searchsorted(offsets, place, "right")) - 1
        assert place + size <= offsets[text + 1]
        if size == ngram:
            earlier = [t[k : k + ngram] for t in texts[: text + 1] for k in range(len(t) - ngram + 1)]
            assert place == min(
                int(offsets[n]) + k
                for n, t in enumerate(texts)
                for k in range(len(t) - ngram + 1)
                if t[k : k + ngram] == piece
            )
            assert piece in earlier


def test_an_ngram_is_found_at_the_very_start_the_very_end_and_as_a_whole_document() -> None:
    text = [7, 5, 9, 2]
    assert find([[*text, 1, 1]], [text], 4).at.tolist() == [0]
    assert find([[1, 1, *text]], [text], 4).at.tolist() == [2]
    assert find([text], [text], 4).at.tolist() == [0]
    assert find([text[:3]], [text], 4).at.tolist() == []


def test_an_ngram_never_crosses_the_border_of_two_documents_or_of_two_texts() -> None:
    assert find([[7, 5], [9, 2]], [[7, 5, 9, 2]], 4).at.tolist() == []
    assert find([[7, 5, 9, 2]], [[7, 5], [9, 2]], 4).at.tolist() == []
    assert find([[7, 5], [], [9, 2], [7, 5, 9, 2]], [[7, 5, 9, 2]], 4).at.tolist() == [4]


def test_a_text_shorter_than_n_is_looked_for_as_a_whole_from_a_quarter_of_n_on() -> None:
    text = list(range(20))
    assert least_whole(32) == 8
    assert find([[99, *text, 99]], [text], 32).at.tolist() == [1]
    assert find([[99, *text[:19], 99]], [text], 32).at.tolist() == []
    assert find([text[:8]], [text[:8]], 32).at.tolist() == [0]
    assert find([text[:7]], [text[:7]], 32).at.tolist() == []
    assert (least_whole(4), least_whole(13), least_whole(100), least_whole(10_000)) == (4, 8, 25, 2500)


def test_of_several_things_at_one_place_the_longest_counts_and_the_place_counts_once() -> None:
    long, short = list(range(12)), list(range(9))
    hits = find([long], [short, long, short], 16)
    assert as_dict(hits) == {0: 12}
    assert hits.place.tolist() == [9]


def test_tokens_of_a_large_vocabulary_and_long_ngrams_are_found() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 200_000, 60_000).astype(np.uint32)
    wanted = gather(tokens[20_000:31_000], np.array([0, 11_000]), 10_000)
    hits = Finder(wanted).find(tokens, np.array([0, 60_000]))
    assert hits.at.tolist() == list(range(20_000, 21_001))
    assert hits.place.tolist() == list(range(1001))


def test_a_hash_is_the_sum_that_the_module_writes_down_and_the_same_wherever_its_window_lies() -> None:
    tokens = np.array([5, 1, 4, 1, 5, 9, 5, 1, 4, 1], np.uint16)
    ((start, hashes),) = [(start, some.tolist()) for start, some in window_hashes(tokens, 4)]
    multiplier = ngrams._MULTIPLIER
    assert start == 0
    assert multiplier % 2 == 1
    assert hashes == [
        sum(int(token) * multiplier ** (j + 1) for j, token in enumerate(tokens[i : i + 4])) % 2**64 for i in range(7)
    ]
    assert hashes[0] == hashes[6]


def test_the_multiplier_is_frozen() -> None:
    """Kept scores are keyed by the version, not by it."""
    assert ngrams._MULTIPLIER == 0xC72B6073EA941365


def naive_shared(documents: Texts, texts: Texts, ngram: int, first_texts: list[int]) -> list[tuple[int, ...]]:
    """(document, file, n-grams, longest stretch), token by token."""
    hits, offsets = find(documents, texts, ngram), np.cumsum([0, *map(len, documents)])
    begins = np.cumsum([0, *map(len, texts)])
    files = [int(np.searchsorted(begins[first_texts], place, "right")) - 1 for place in hits.place.tolist()]
    found = []
    for document, (start, stop) in enumerate(pairwise(offsets.tolist())):
        mine = [(at, size, f) for at, size, f in zip(hits.at, hits.size, files, strict=True) if start <= at < stop]
        stretches: list[tuple[int, int, int]] = []
        for file, run in groupby(mine, key=lambda hit: hit[2]):
            begin, reach, count = None, None, 0
            for at, size, _ in run:
                if reach is not None and at > reach:
                    stretches.append((file, reach - begin, count))
                    begin, reach, count = None, None, 0
                begin = at if begin is None else begin
                reach = max(reach or 0, at + size)
                count += 1
            stretches.append((file, reach - begin, count))
        for file in sorted({f for f, *_ in stretches}):
            own = [s for s in stretches if s[0] == file]
            found.append((document, file, sum(c for *_, c in own), max(length for _, length, _ in own)))
    return found


@given(documents=TEXTS, texts=TEXTS, ngram=st.integers(4, 12), cut=st.integers(0, 8))
def test_sums_by_document_and_file_are_those_of_counting_one_by_one(
    documents: Texts, texts: Texts, ngram: int, cut: int
) -> None:
    first_texts = [0, min(cut, len(texts) - 1)]
    begins = np.cumsum([0, *map(len, texts)])[first_texts]
    _, offsets = flat(documents)
    found = shared(find(documents, texts, ngram), offsets, begins)
    columns = (found.document, found.file, found.ngrams, found.longest)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    assert rows == [tuple(map(int, row)) for row in naive_shared(documents, texts, ngram, first_texts)]


def test_the_longest_stretch_says_where_it_stands_in_the_evaluation() -> None:
    texts = [[1, 2, 3, 4], [5, 6, 7, 8, 9, 10]]
    documents = [[0, 0], [1, 2, 3, 4, 0, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3, 4]]
    _, offsets = flat(documents)
    found = shared(find(documents, texts, 4), offsets, np.array([0]))
    assert found.document.tolist() == [1]
    assert found.ngrams.tolist() == [5]
    assert found.longest.tolist() == [6]
    assert found.place.tolist() == [4]
    assert found.size.tolist() == [4]
