"""The commands as a person runs them: sentences, exit codes, and what is left on disk."""
