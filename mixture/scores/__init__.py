"""Scores: numbers about documents, joined to the index by id.

definitions.py    what is computed of a text: gzip_ratio, type_token_ratio
perplexity.py     what a KenLM model says of it
compute.py        the stage: corpora in, a table of scores for each column out
contamination.py  another stage: the token store in, n-grams shared with evaluation files out
  evaluation.py     what is looked for
  ngrams.py         how it is found (pure)
  findings.py       what came of it, by domain, by file, the worst documents
  advice.py         the lines to write into the recipe
tables.py         a table of scores, ours or another tool's
summary.py        how a column is spread
"""
