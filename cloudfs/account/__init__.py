"""One account at work, with all that people and programs ask about it: what the daemon offers to them.

`composing` puts it together from the account's settings: the engine, its connections, and what goes along with them.
`protocol` is what the daemon knows of it, `at_work` that as it really is.
"""
