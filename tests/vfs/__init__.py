"""The file system's operations by inode, over a server in memory."""
