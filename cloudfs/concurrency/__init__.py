"""Small concurrency tools on trio that know nothing of files or servers.

`keylock` one lock per key · `singleflight` one running call per key, many waiters · `backoff` how long to
wait before another try · `supervise` a worker that is started again for ever · `threads` where blocking
calls run. Nothing here keeps state of its own beyond the objects that callers make.
"""
