"""The document index: one row per document, and the questions asked of it."""
