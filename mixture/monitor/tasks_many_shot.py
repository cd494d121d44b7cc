"""Many-shot learning in context: words without a meaning, each with its label, again and again, as many as fit.

    Question: zaluro  Answer: copper   Question: mibeto  Answer: lantern   …   Question: zaluro  Answer:

What belongs to what is drawn, so no model knows it before it has read the shots. Each word comes about eight times, in
rounds that are shuffled: a longer context holds more words, not more of the same, so the task grows with the length.
The first shot is cut at its front so that the prompt has exactly its length. The needle is the label after the asked
word's last shot. (Agarwal et al., "Many-Shot In-Context Learning", arXiv 2404.11018; abstract labels as in HELMET,
arXiv 2410.02694.)
"""

from __future__ import annotations

from collections.abc import Sequence

from mixture.monitor.codec import Codec
from mixture.monitor.haystack import Haystack
from mixture.monitor.probes import Lots, Probe, Sheet, lots, too_short
from mixture.monitor.words import WORDS

NAME = "many_shot"
LABELS = 16
#: How often each word comes, about, and the fewest words.
REPEATS, FEWEST = 8, 4
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"

#: A shot's pieces: question, label, what ends it.
Shot = tuple[list[int], list[int], list[int]]


def probe(codec: Codec, haystack: Haystack | None, length: int, depth: float, sample: int, seed: int) -> Probe:
    """Return one probe; its depth only addresses the draws: what is asked for stands all over the context.

    Args:
        codec: the model's tokenizer.
        haystack: not needed.
        length: tokens of the prompt.
        depth: as said.
        sample: its number in its cell.
        seed: of all draws.

    Raises:
        MonitorError: the length does not hold the fewest words twice.
    """
    del haystack  # every task is called alike
    draws = lots(seed, NAME, length, depth, sample)
    labels = draws.some(WORDS, LABELS)
    typical = sum(map(len, _shot(codec, _word(draws, set()), labels[0])))
    words = max(FEWEST, length // (typical * REPEATS))
    known: set[str] = set()
    named = [_word(draws, known) for _ in range(words)]
    meant = [draws.one(labels) for _ in named]
    shots = [_shot(codec, word, label) for word, label in zip(named, meant, strict=True)]
    asked = draws.below(words)
    question = shots[asked][0]
    room = length - len(codec.opening) - len(question)
    needed = 2 * sum(len(piece) for shot in shots for piece in shot)
    if room < needed:
        raise too_short(NAME, length, length - room + needed, f"{words} words with their labels twice and the question")
    rounds = _rounds(draws, [sum(map(len, shot)) for shot in shots], room)
    context = Sheet()
    needle = sentence = (0, 0)
    for number in rounds:
        begin, _ = context.add(shots[number][0])
        found = context.add(shots[number][1])
        _, end = context.add(shots[number][2])
        if number == asked:
            needle, sentence = found, (begin, end)
    cut = context.length - room
    moved = len(codec.opening) - cut
    needle, sentence = ((first + moved, stop + moved) for first, stop in (needle, sentence))
    sheet = Sheet()
    sheet.add(codec.opening, context.tokens()[cut:], question)
    return sheet.probe((NAME, depth, sample), needle, sentence, (meant[asked],))


def _rounds(draws: Lots, sizes: Sequence[int], room: int) -> list[int]:
    """Return the numbers of shots, in shuffled rounds of all, until they take `room` tokens or more."""
    count = -(-room // sum(sizes))
    return [number for _ in range(count) for number in draws.order(len(sizes)).tolist()]


def _word(draws: Lots, known: set[str]) -> str:
    """Return a word without a meaning that is not known yet, and note it."""
    while (found := "".join(draws.one(_CONSONANTS) + draws.one(_VOWELS) for _ in range(3))) in known:
        pass
    known.add(found)
    return found


def _shot(codec: Codec, word: str, label: str) -> Shot:
    return codec.after(f"Question: {word}\nAnswer:"), codec.after(f" {label}"), codec.after("\n\n")
