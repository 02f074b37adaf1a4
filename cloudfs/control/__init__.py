"""The way into a running daemon: one line of JSON asks, one or more lines answer."""
