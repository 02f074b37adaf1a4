"""The desktop: what other programs of the machine tell us, over D-Bus."""
