"""Token streams with a designed mix of domains and document lengths.

Data flows one way: corpus → tokens → index → plan → pack → shards. See README.md for the map.
"""

__version__ = "0.1.0"
