"""One module per family of URLs."""
