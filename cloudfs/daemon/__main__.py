"""`python -m cloudfs.daemon`."""

import sys

from cloudfs.daemon.process import main

if __name__ == "__main__":
    sys.exit(main())
