"""Other programs of the desktop."""
