"""The process that serves one account: its start and end, the mount, the control socket, and what signals ask of it.

`process` is the whole of it, from the command line to the exit code; `serving` is what it does meanwhile. Of the
account it knows no more than `cloudfs.account.protocol` says.
"""
