"""Key and value: one of many pairs of random strings is asked for; all the others are needles, too, of other questions.

    JSON data:
    {"4be1a09c": "d07e1f92",
     …
     "91fe22b0": "a8d1c377"}
    Question: What is the value of "91fe22b0"?  Answer: "a8d1c377"

The depth is the asked pair's place among the pairs. So that the prompt has exactly its length, one pair that is never
asked for has a longer value; it stands at the far end from the asked one. (Liu et al., "Lost in the Middle", arXiv
2307.03172; RULER's multi-key needles, arXiv 2404.06654. Eight hexadecimal digits instead of UUIDs: more pairs.)
"""

from __future__ import annotations

from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import Lots, Probe, Sheet, lots, too_short

NAME = "json_kv"
_BEFORE = "Extract the value of a key from the JSON data below.\n\nJSON data:\n{"
_DIGITS = 8
#: Fewest tokens of the long value.
_LEAST = 8

Pair = tuple[list[int], list[int]]


def probe(codec: Codec, haystack: Haystack | None, length: int, depth: float, sample: int, seed: int) -> Probe:
    """Return one probe.

    Args:
        codec: the model's tokenizer.
        haystack: not needed.
        length: tokens of the prompt.
        depth: the asked pair's place among the pairs.
        sample: its number in its cell.
        seed: of all draws.

    Raises:
        MonitorError: the length does not hold a pair and the question.
    """
    del haystack  # every task is called alike
    draws = lots(seed, NAME, length, depth, sample)
    before, close = [*codec.opening, *codec.after(_BEFORE)], codec.after("}")
    between = codec.after(",\n")
    keys: set[str] = set()
    asked_key, asked_value = _fresh(draws, keys), draws.hexadecimal(_DIGITS)
    asked = _pair(codec, asked_key, asked_value)
    question = codec.after(f'\n\nQuestion: What is the value of "{asked_key}"?\nAnswer:')
    long_key = codec.after(f' "{_fresh(draws, keys)}":')
    needed = sum(map(len, [before, *asked, between, long_key, close, question])) + _LEAST
    if length < needed:
        raise too_short(NAME, length, needed, "two pairs and the question")
    pairs, spare = _others(codec, draws, keys, length - needed, len(between))
    pairs.insert(place := round(depth * len(pairs)), asked)
    long_pair = (long_key, _long(codec, draws, _LEAST + spare))
    if depth < 0.5:
        pairs.append(long_pair)
    else:
        pairs.insert(0, long_pair)
        place += 1
    sheet = Sheet()
    sheet.add(before)
    for pair in pairs[:place]:
        sheet.add(*pair, between)
    begin, _ = sheet.add(asked[0])
    needle = sheet.add(asked[1])
    for pair in pairs[place + 1 :]:
        sheet.add(between, *pair)
    sheet.add(close, question)
    return sheet.probe((NAME, depth, sample), needle, (begin, needle[1]), (asked_value,))


def _others(codec: Codec, draws: Lots, keys: set[str], room: int, between: int) -> tuple[list[Pair], int]:
    """Return as many pairs as fit, each with `between` tokens beside it, and the tokens left over."""
    found: list[Pair] = []
    while True:
        pair = _pair(codec, _fresh(draws, keys), draws.hexadecimal(_DIGITS))
        size = len(pair[0]) + len(pair[1]) + between
        if size > room:
            return found, room
        found.append(pair)
        room -= size


def _fresh(draws: Lots, keys: set[str]) -> str:
    """Return a key that no other pair has, and note it."""
    while (found := draws.hexadecimal(_DIGITS)) in keys:
        pass
    keys.add(found)
    return found


def _pair(codec: Codec, key: str, value: str) -> Pair:
    # The blank and the quotes belong to the value's piece, so that the answer has the same tokens.
    return codec.after(f' "{key}":'), codec.after(f' "{value}"')


def _long(codec: Codec, draws: Lots, size: int) -> list[int]:
    """Return a value of exactly so many tokens: random digits, cut between two tokens."""
    quote = codec.after('"')
    # No vocabulary has tokens for 16 random digits: there are enough to cut from.
    found = codec.after(f' "{draws.hexadecimal(16 * size)}')
    return [*found[: size - len(quote)], *quote]
