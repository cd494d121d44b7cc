"""Published mixtures, as values: what a paper says, in the recipe's words. No files.

    preset      the nouns: Preset, its stages, its corpora
    domains     a preset's shares on another corpus: renamed, left out, scaled
    fu …        one module per paper, its numbers at the top
    layouts     papers about sequences rather than mixtures

A new one is a `Preset` in a module named after the paper, and that module's name in the tuple below; `mixture init
--list-presets` and the tests then find it. Its row in `docs/presets.md` is checked.
"""

from __future__ import annotations

from mixture.errors import RecipeError, nearest
from mixture.presets import bertin, fu, hunyuan, layouts, olmo, prolong, qwen, ultralong
from mixture.presets.preset import Preset

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for paper in (fu, hunyuan, prolong, olmo, ultralong, qwen, bertin, layouts)
    for preset in paper.PRESETS
}


def find(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        RecipeError: there is none; names the nearest and all that there are.
    """
    if name in PRESETS:
        return PRESETS[name]
    raise RecipeError(f"no preset {name!r}; {nearest(name, PRESETS)} (there are: {', '.join(PRESETS)})")
