"""The parts of `scripts/bench peers`: cloudfs beside other mounts of the same server."""
