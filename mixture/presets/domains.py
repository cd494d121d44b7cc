"""A preset's domains on another corpus: renamed, some left out, the rest scaled. Pure arithmetic.

    preset       Books .3, Repos .3 (part: long), FineWeb .2, Wikipedia .2 (part: short)
    mapping      Books → novels, FineWeb → web
    left out     Repos, Wikipedia
    what comes   novels .6, web .4: a part keeps its total

Shares are written with eight decimals, rounded by largest remainder, so they sum to exactly 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mixture.errors import RecipeError, nearest
from mixture.presets.preset import Preset, Want, Wants

_DECIMALS = 8


def rounded(shares: Mapping[str, float]) -> dict[str, float]:
    """Round shares that sum to about 1 to eight decimals, by largest remainder, so that they sum to 1."""
    whole = 10**_DECIMALS
    total = math.fsum(shares.values())
    ideal = {name: share / total * whole for name, share in shares.items()}
    units = {name: math.floor(value) for name, value in ideal.items()}
    order = sorted(ideal, key=lambda name: units[name] - ideal[name])
    for name in order[: whole - sum(units.values())]:
        units[name] += 1
    return {name: count / whole for name, count in units.items()}


def raised(shares: Mapping[str, float], name: str, share: float) -> dict[str, float]:
    """Raise one domain to a share, the others in proportion."""
    rest = math.fsum(value for other, value in shares.items() if other != name)
    return rounded({n: share if n == name else value * (1 - share) / rest for n, value in shares.items()})


def read_pairs(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Read `A=B`, or several in one text: `A=B,C=D`.

    Raises:
        ValueError: a text is not of this form.
    """
    pairs = []
    for pair in (piece.strip() for text in texts for piece in text.split(",")):
        mine, equals, yours = (part.strip() for part in pair.partition("="))
        if not (mine and equals and yours):
            raise ValueError(f"{pair!r} is not PRESET_DOMAIN=YOUR_DOMAIN, for example Books=novels")
        pairs.append((mine, yours))
    return pairs


def assign(preset: Preset, pairs: Sequence[tuple[str, str]], sources: Sequence[str]) -> dict[str, str]:
    """Return which of your domains plays each of the preset's; those without one are missing.

    Args:
        preset: the preset.
        pairs: what was said: the preset's domain, your domain.
        sources: your domains; empty: the corpus is the paper's, and has all of them.

    Raises:
        RecipeError: an unknown name, a domain said twice, or a preset whose shares follow from the corpus.
    """
    known = {name.casefold(): name for name in preset.domains}
    if pairs and not known:
        raise RecipeError(
            f"--domains: {preset.name} has no shares of its own, they follow from the corpus; leave the option away"
        )
    chosen: dict[str, str] = {}
    for mine, yours in pairs:
        name = known.get(mine.casefold())
        if name is None:
            raise RecipeError(
                f"--domains: {mine!r} is not a domain of {preset.name}; {nearest(mine, known.values())} "
                f"(its domains: {', '.join(known.values())})"
            )
        if chosen.get(name, yours) != yours:
            raise RecipeError(
                f"--domains: {name} is given twice, as {chosen[name]} and as {yours}; give it one of yours, or give "
                "both sources one name"
            )
        if sources and yours not in sources:
            raise RecipeError(
                f"--domains: {name}={yours}: no --source is named {yours!r}, and a source's name is its domain; "
                f"{nearest(yours, sources)}"
            )
        chosen[name] = yours
    same = {name.casefold(): name for name in reversed(sources)} if sources else known
    return {
        name: chosen.get(name) or same[name.casefold()]
        for name in preset.domains
        if name in chosen or name.casefold() in same
    }


def fit(preset: Preset, wants: Wants, mapping: Mapping[str, str]) -> dict[str, Want]:
    """Return what is wanted of your domains.

    Args:
        preset: the preset.
        wants: of one of its stages.
        mapping: the preset's domain → yours; see `assign`.

    Raises:
        RecipeError: a part of the mixture has no domain left, or domains that become one have different length rules.
    """
    mapping = dict(mapping) | ({preset.twin: preset.twin} if preset.twin else {})
    merged: dict[str, list[Want]] = defaultdict(list)
    for part in dict.fromkeys(want.part for want in wants.values()):
        mine = {name: want for name, want in wants.items() if want.part == part}
        here = [name for name in mine if name in mapping]
        if not here:
            raise RecipeError(_nothing_plays(preset, list(mine)))
        whole = len(here) == len(mine)
        factor = 1 if whole else _total(mine.values()) / _total(mine[name] for name in here)
        for name in here:
            merged[mapping[name]].append(Want(mine[name].share * factor, mine[name].lengths))
    for name, several in merged.items():
        if len({want.lengths for want in several}) > 1:
            both = [mine for mine, yours in mapping.items() if yours == name]
            raise RecipeError(
                f"--domains: {' and '.join(both)} have different length rules in {preset.name}, so {name!r} cannot be "
                "both; give them domains of their own, or leave one away"
            )
    shares = {name: _total(several) for name, several in merged.items()}
    # A paper's own numbers stay as it prints them.
    exact = shares if mapping.keys() >= wants.keys() else rounded(shares)
    return {name: Want(round(exact[name], _DECIMALS), merged[name][0].lengths) for name in merged}


def _total(wants: Iterable[Want]) -> float:
    return math.fsum(want.share for want in wants)


def _nothing_plays(preset: Preset, names: Sequence[str]) -> str:
    return (
        f"{preset.name} needs a domain for {' or '.join(names)}, and none of yours plays it; name a --source so, or "
        f"say which one does: --domains {names[0]}=YOURS"
    )
