"""Encryption at rest: which folder holds an account's state, what opens it, and how it is changed."""
