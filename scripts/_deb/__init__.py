"""The .deb: a virtual environment of the system's Python in /usr/lib/cloudfs, and what belongs around it.

Nothing in it knows the folder that it was built in: the environment's Python is the system's, by its full name
(python3.11), and finds its packages by `pyvenv.cfg` beside it.
"""
