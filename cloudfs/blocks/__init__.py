"""Bytes on the local disk: clean blocks that may vanish, dirty files that must not.

`blockstore` is the cache of clean blocks. Below it: `rawdisk` makes diskcache keep bytes and nothing but bytes,
`index` knows what is cached, `volume` is both in one folder, `recency` says what was used lately, `evictor` who
has to go, `upkeep` clears away what is left over, `trouble` names what can go wrong.

`staging` holds what programs wrote and the server does not have yet. Below it: `dirtyfolder` is its blocking
half, `descriptors` a bounded set of open files.

Clean and dirty bytes share no folder, no code path and no fate.
"""
