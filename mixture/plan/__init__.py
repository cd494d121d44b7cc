"""The plan: quotas per cell, which documents meet them, and in what order they stand. Reads no token."""
