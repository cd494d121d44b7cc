"""A record batch of a shard as arrays: its tokens, its spans end to end, and which places hold real tokens.

    row 0   a a a b b · · ·       spans [0, 3) [3, 5)
    row 1   b b b b b b · c       spans [0, 6) [7, 8)
    borders 0 2 4      start 0 3 0 7      stop 3 5 6 8      row 0 0 1 1

A *real* token is one that a span covers; the other places of a sequence hold padding (id 0), or marks that a transform
wrote and the column `marks` lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mixture import schemas
from mixture.pack.runs import covered
