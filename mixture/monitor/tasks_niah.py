"""Needle in a haystack: one sentence about a place, hidden in long text, and a question about it at the end.

    A secret phrase is hidden in the text below. … haystack … The secret phrase of Lisbon is: amber violin harbor seven.
    … haystack …  Question: What is the secret phrase of Lisbon?  Answer:

The phrase is four random words, so it cannot be guessed, its tokens differ from each other, and half a phrase gives
half of the ROUGE-1 recall. (Kamradt, "Needle in a Haystack: pressure testing LLMs", 2023; the four words are ours.)
"""

from __future__ import annotations

from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import Probe, Sheet, lots, too_short
from mixture.monitor.words import PLACES, WORDS

NAME = "niah"
_BEFORE = "A secret phrase is hidden in the text below. Find it and remember it.\n\n"


def probe(codec: Codec, haystack: Haystack, length: int, depth: float, sample: int, seed: int) -> Probe:
    """Return one probe; exactly `depth` of the haystack's tokens stand before the needle, rounded to whole tokens.

    Raises:
        MonitorError: the length does not hold needle and question, or the haystack is too small.
    """
    draws = lots(seed, NAME, length, depth, sample)
    place = draws.one(PLACES)
    phrase = " ".join(draws.some(WORDS, 4))
    before = [*codec.opening, *codec.after(_BEFORE)]
    head, answer, tail = codec.after(f" The secret phrase of {place} is:"), codec.after(f" {phrase}"), codec.after(".")
    question = codec.after(f"\n\nQuestion: What is the secret phrase of {place}?\nAnswer:")
    needed = sum(map(len, (before, head, answer, tail, question)))
    if length < needed:
        raise too_short(NAME, length, needed, "the needle, its question and the words around them")
    above = round(depth * (length - needed))
    first, second = haystack.around(above, length - needed - above, draws)
    sheet = Sheet()
    sheet.add(before, first)
    begin, _ = sheet.add(head)
    needle = sheet.add(answer)
    _, end = sheet.add(tail)
    sheet.add(second, question)
    return sheet.probe((NAME, depth, sample), needle, (begin, end), (phrase,))
