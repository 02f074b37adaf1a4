"""The server: WebDAV and Nextcloud's dialect of it behind one `Remote` protocol. Nothing else speaks HTTP."""
