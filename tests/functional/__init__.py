"""One suite of file system behaviour, run on a plain folder, on the vfs object and on a real mount."""
