"""Documents in: one reader per format, all with the same two functions.

A file is read in *chunks*: stretches of about `CHUNK_BYTES` of text whose borders depend on the file alone, never on
who reads it. A chunk becomes one part of the token store, so it is also the most work that a killed task can lose.

    chunks(file, reading)               how many chunks the file has, or None where only reading it can tell
    read(file, reading, start, step)    yields chunks start, start+step, start+2·step, …
"""

from __future__ import annotations
