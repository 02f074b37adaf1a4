"""The kernel adapter: the only room that knows pyfuse3."""
