"""The commands. Thin: each asks a daemon or starts one, and says in a sentence how it went."""
