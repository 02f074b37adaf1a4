"""The bytes of files: fetched lazily and ahead of readers, staged in layers, made ready to be sent."""
