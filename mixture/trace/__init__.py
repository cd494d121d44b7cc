"""Trace: from a token of the stream to its source, and from a document to every sequence that it stands in.

trace = Trace(lockfile.read(path), Workspace(work, data))
trace.token(41, 700)          sequence 41, place 700  →  document, offset, copy, file, row, text
trace.document("3fa9c1d0")    →  file, row, and every sequence and place of every copy
"""

from __future__ import annotations

from mixture.trace.ask import Trace

__all__ = ["Trace"]
