"""Variable tracking: chains of assignments, strewn over long text in order; all names that hold a value are asked.

    … VAR QKD = 48210. … VAR ZPA = VAR QKD. … VAR MHT = VAR ZPA. …
    Question: Find all variables that are assigned the value 48210.  Answer: QKD, ZPA, MHT

A second chain with another value stands in between. The score is the share of the names that the answer has (RULER's
string match, all; arXiv 2404.06654, section 3). A small solved case comes first, so that a model without instruction
tuning knows what is wanted. Statements stand at sentence ends; the answer is not copied from one place.
"""

from __future__ import annotations

from collections.abc import Sequence

from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import I64, Lots, Probe, Sheet, lots, too_short

NAME = "variable_tracking"
#: Chains, and assignments in each: RULER's four hops after the first.
CHAINS, LINKS = 2, 5
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BEFORE = (
    "Track the variables that are assigned in the text below.\n\n"
    "The road was dry. VAR AAX = 10573. It went on for a mile. VAR AAY = VAR AAX. Then came rain.\n\n"
    "Question: Find all variables that are assigned the value 10573.\nAnswer: AAX, AAY\n\n"
)
_TAKEN = frozenset({"AAX", "AAY"})

#: The pieces of a statement: before the name, the name, after it.
Statement = tuple[list[int], list[int], list[int]]


def probe(codec: Codec, haystack: Haystack, length: int, depth: float, sample: int, seed: int) -> Probe:
    """Return one probe; its depth only addresses the draws: statements are spread over the whole text.

    Raises:
        MonitorError: the length does not hold the chains and the question, or the haystack is too small.
    """
    draws = lots(seed, NAME, length, depth, sample)
    names = _names(draws)
    values = draws.some(range(10_000, 100_000, 7), CHAINS)
    chains = [_chain(codec, names[n * LINKS :][:LINKS], values[n]) for n in range(CHAINS)]
    statements = _woven(draws, chains)
    expected = tuple(names[:LINKS])
    before = [*codec.opening, *codec.after(_BEFORE)]
    question = codec.after(f"\n\nQuestion: Find all variables that are assigned the value {values[0]}.\nAnswer:")
    needed = len(before) + len(question) + sum(len(piece) for one in statements for piece in one)
    if length < needed:
        raise too_short(NAME, length, needed, f"{CHAINS} chains of {LINKS} assignments, an example and the question")
    text, ends = haystack.stretch(length - needed, draws)
    sheet = Sheet()
    sheet.add(before)
    needle = sentence = (0, 0)
    at = 0
    for statement, place in zip(statements, _places(draws, ends, len(statements)), strict=True):
        sheet.add(text[at:place])
        at = place
        begin, _ = sheet.add(statement[0])
        found = sheet.add(statement[1])
        _, end = sheet.add(statement[2])
        if statement is chains[0][0]:
            needle, sentence = found, (begin, end)
    sheet.add(text[at:], question)
    answer = codec.after(" " + ", ".join(expected))
    return sheet.probe((NAME, depth, sample), needle, sentence, expected, answer)


def _names(draws: Lots) -> list[str]:
    found: list[str] = []
    while len(found) < CHAINS * LINKS:
        name = "".join(draws.one(_LETTERS) for _ in range(3))
        if name not in found and name not in _TAKEN:
            found.append(name)
    return found


def _chain(codec: Codec, names: Sequence[str], value: int) -> list[Statement]:
    sources = [str(value), *(f"VAR {name}" for name in names[:-1])]
    return [
        (codec.after(" VAR"), codec.after(f" {name}"), codec.after(f" = {source}."))
        for name, source in zip(names, sources, strict=True)
    ]


def _woven(draws: Lots, chains: Sequence[list[Statement]]) -> list[Statement]:
    """Return all statements in an order that keeps each chain's own."""
    turns = [number for number, chain in enumerate(chains) for _ in chain]
    left = [iter(chain) for chain in chains]
    return [next(left[turns[at]]) for at in draws.order(len(turns)).tolist()]


def _places(draws: Lots, ends: I64, count: int) -> list[int]:
    """Return so many sentence ends, rising; one may serve for several statements where there are few."""
    enough = len(ends) >= count
    chosen = draws.order(len(ends))[:count].tolist() if enough else [draws.below(len(ends)) for _ in range(count)]
    return sorted(int(ends[at]) for at in chosen)
