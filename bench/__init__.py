"""How fast, against what: every figure beside a floor or a peer measured in the same run.

    python -m bench --corpus FOLDER --tokenizer FILE        a rich table, and JSON in bench/out/

    machine.py   what it ran on
    corpora.py   text to run on, and a vocabulary where none is given
    measure.py   fresh processes, A B A B, min, median, max, peak memory
    tokenize.py  JSON lines → token store and index, against gigatoken reading the same lines
    pack.py      plan and store → shards, against memcpy and `cp` of the same bytes (floors.py)

Figures are never tests: a machine has moods. A ratio is taken between neighbours in time.
"""
