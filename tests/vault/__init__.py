"""Encryption at rest: the present place, changes of it, and keys."""
