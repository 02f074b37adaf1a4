"""One suite of HTTP requests that the stand-in, plain WebDAV servers and a real Nextcloud must answer alike.

It knows nothing of cloudfs: it checks what cloudfs is built on. `traits` says where a server is known to deviate.
"""
