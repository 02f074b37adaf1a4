"""The tree: what the mount shows, what the server was seen to have, and how the second becomes the first."""
