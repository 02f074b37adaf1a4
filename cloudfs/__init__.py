"""cloudfs: a Nextcloud account, or any WebDAV server, as an ordinary Linux folder."""
