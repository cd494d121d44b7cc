"""Relations: which documents of a domain are related, as one path that visits each of them once.

terms.py     tokens in; the terms of each document that tell most of it, and where else they stand (BM25)
walk.py      the path: from each document to the most related one that is left
vectors.py   embeddings in; relatedness by cosine
block.py     the task: the documents of a block of ids in, their places on its path out
relate.py    the stage: which blocks there are, which are missing, what they hold
"""
