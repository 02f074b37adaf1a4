"""The WebDAV methods, with SabreDAV's and Nextcloud's answers."""
