"""The kernel adapter, over an in-memory file system that has none of the engine in it."""
