"""Where passwords are kept: each place by itself, and what a mount does while it has none."""
