"""The daemon and its control socket, over an engine that pretends."""
