"""Words that probes are made of: short and common, so that every vocabulary writes them in a token or few."""

from __future__ import annotations

#: 128 nouns and adjectives; four of them have 2^28 orders.
_WORDS = """
amber anchor apple arrow autumn bamboo basket beacon bell birch blue bottle brass bridge bronze butter
cabin candle canvas carbon castle cedar cherry circle clay cloud clover coal cobalt copper coral cotton
crane crimson crystal curtain daisy desert diamond dragon drum eagle east ember engine falcon feather fern
flame flute forest fossil fountain garden garnet ginger glass globe gold granite grape gravel green guitar
hammer harbor harvest hazel honey horizon island ivory jacket jade jasmine kettle kite ladder lake lantern
lemon lily lion lizard magnet maple marble meadow mirror moon moss mountain needle night north nutmeg
oak ocean olive orange orchid otter paper pearl pepper piano pine planet plum poppy prairie quartz
rabbit rain raven red ribbon river rocket rose saddle sand shadow silver snow south spring star
"""

#: Names to ask by.
_PLACES = """
Lisbon Oslo Cairo Lima Kyoto Dublin Prague Vienna Athens Boston Chicago Denver Florence Geneva Hamburg
Istanbul Jakarta Kingston London Madrid Nairobi Ottawa Paris Quebec Rome Santiago Tokyo Venice Warsaw
Zurich Berlin Milan
"""

WORDS: tuple[str, ...] = tuple(_WORDS.split())
PLACES: tuple[str, ...] = tuple(_PLACES.split())
