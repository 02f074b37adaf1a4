"""Two mounts and a WebDAV client at work in one folder, over a network that fails, and a judge of what came of it."""
