"""Generated documents that speak of topics: a topic has letters of its own, among words that all share.

A recipe of the kitchen has bytes for tokens: a topic has Cyrillic letters whose last bytes no other topic has.
"""

from __future__ import annotations

import random

from tests.conftest import Document

COMMON = ["the", "of", "and", "token", "stream", "length", "domain", "book", "code", "wiki", "long", "short"]
#: Topics that there may be, three letters each.
MOST_TOPICS = 21


def topic_of(text: str) -> str:
    """Return the topic that a document speaks of."""
    return text.split(maxsplit=1)[0].split("-")[1]


def topical(count: int, *, topics: int, seed: int = 0, domain: str = "wiki", words: int = 60) -> list[Document]:
    """Documents of equal share in each topic, a third of their words from it, distinct by their first word."""
    draw = random.Random(seed)
    out = []
    for number in range(count):
        topic = number % topics
        own = [chr(0x400 + 3 * topic + n) for n in range(3)]
        size = draw.randint(words // 2, words * 2)
        text = [draw.choice(own) if draw.random() < 0.34 else draw.choice(COMMON) for _ in range(size)]
        out.append(Document(" ".join([f"{domain}-{topic}-{seed}-{number}", *text]), domain))
    return out
