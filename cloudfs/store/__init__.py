"""One SQLite file per account: the three views of every node, and what staging holds. Nothing else uses SQLite."""
