"""The file system's operations by inode, without FUSE types: everything here is testable without a mount."""
