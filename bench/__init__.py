"""How fast, against what: every figure beside a floor or a peer measured in the same run.

    python -m bench --corpus NAME=PATH … --tokenizer FILE …        a rich table, and JSON in bench/out/

    what it runs on   machine.py, corpora.py, vocabularies.py, fu_corpus.py, slimpajama*.py (an index of that shape)
    how it measures   measure.py: fresh processes, A B A B, min, median, max, peak memory; floors.py: memcpy, cp, disk
    what runs         setting.py, options.py, job.py (a recipe with its workers warm), show.py

    tokenize          JSON lines → token store and index, against gigatoken reading the same lines
    peers             a slice of them by datatrove and dolma (peers/, in environments of their own)
    scaling           two workers over one, ours and what the machine itself gives
    long              one document of 100 MB, of 1 GB, held to the reference
    pack              plan and store → shards, against memcpy and `cp` of the same bytes
    plan, packings, trace, loader
    fu                Fu's job whole, in core-minutes a billion tokens; the authors', and the disk's part
    growth, scale     on request: cost as work grows, drawn; a job of many parts and shards

Figures are never tests: a machine has moods. A ratio is taken between neighbours in time.
"""
