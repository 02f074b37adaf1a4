"""Keys and sealed blocks: unreadable without the key, unmovable with it, dropped when they are not what was kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.sealing import Cipher, Keys, quick_cipher
from cloudfs.blocks.values import SealedValues
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino
from tests.blocks.conftest import ExpectLog, MakeStore, volume_folder

KEYS = Keys(bytes(range(32)), Cipher.AES)
INO, VERSION = Ino(7), ContentVersion(3)
SECRET = b"nobody is to read this. "


def test_keys_of_different_purposes_accounts_and_ciphers_differ() -> None:
    others = [Keys(bytes(32), Cipher.AES), Keys(bytes(range(32)), Cipher.CHACHA)]
    assert len({KEYS.check, KEYS.database.hex(), *(keys.check for keys in others)}) == 4
    assert KEYS.check == Keys(bytes(range(32)), Cipher.AES).check
    assert len(KEYS.database) == 32
    assert KEYS.seal("a").unwrap(KEYS.seal("a").wrap(b"x", b"p"), b"p") == b"x"
    for seal, place in ((KEYS.seal("b"), b"p"), (KEYS.seal("a"), b"q"), (others[0].seal("a"), b"p")):
        assert seal.unwrap(KEYS.seal("a").wrap(b"x", b"p"), place) is None
    assert KEYS.seal("a").unwrap(b"too short", b"p") is None
    with pytest.raises(ValueError, match="length"):
        Keys(b"short", Cipher.AES)


def test_the_cipher_is_what_the_processor_does_quickly(tmp_path: Path) -> None:
    said = tmp_path / "cpuinfo"
    for text, cipher in (
        ("flags\t\t: fpu aes avx\n", Cipher.AES),
        ("Features\t: fp asimd aes pmull\n", Cipher.AES),
        ("flags\t\t: fpu avx\n", Cipher.CHACHA),
        ("", Cipher.CHACHA),
    ):
        said.write_text(text)
        assert quick_cipher(said) is cipher
    assert quick_cipher(tmp_path / "none") is Cipher.CHACHA


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("size", [1, 4096, 32 * 1024, BLOCK_SIZE - 1, BLOCK_SIZE])
def test_a_sealed_value_opens_in_its_place_only(cipher: Cipher, size: int) -> None:
    values = SealedValues(Keys(bytes(range(32)), cipher), "store")
    key, data = BlockKey(INO, VERSION, 0), (SECRET * (size // 24 + 1))[:size]
    lent, mark = values.close(key, data, values.known_by(data))
    value = bytes(lent)
    assert SECRET not in value
    assert len(value) % 4096 == 0 or size % 4096 or size < 32 * 1024
    assert values.open(key, value, size, mark) == data
    assert values.close(key, data, None)[0] != value, "never the same twice"
    for other in (
        BlockKey(Ino(8), VERSION, 0),
        BlockKey(INO, ContentVersion(4), 0),
        BlockKey(INO, VERSION, 1),
    ):
        assert values.open(other, value, size, mark) is None
    assert values.open(key, value, size - 1, mark) is None
    assert values.open(key, value[: size // 2], size, mark) is None
    assert values.open(key, value, size, mark ^ 1) is None
    for at in {0, size // 2, size, size + 15, size + 16, size + 27}:
        damaged = bytearray(value)
        damaged[at] ^= 1
        assert values.open(key, bytes(damaged), size, mark) is None
    assert SealedValues(Keys(bytes(range(32)), cipher), "other").open(key, value, size, mark) is None
    assert SealedValues(Keys(bytes(32), cipher), "store").open(key, value, size, mark) is None


async def test_blocks_on_the_disk_are_sealed_and_come_back(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store(keys=KEYS)
    large, small = (SECRET * 50_000)[:BLOCK_SIZE], SECRET * 10
    await store.put_many([(INO, VERSION, 0, large), (INO, VERSION, 1, small)])
    await store.put(INO, VERSION, 0, large)
    assert await store.get(INO, VERSION, 0) == large
    assert await store.get(INO, VERSION, 1) == small
    assert store.held_bytes(INO, VERSION) == len(large) + len(small)
    await store.aclose()
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or SECRET not in path.read_bytes(), path
    again = await make_store(keys=KEYS)
    assert await again.get(INO, VERSION, 0) == large


async def test_a_block_in_the_place_of_another_is_dropped(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog
) -> None:
    store = await make_store(keys=KEYS)
    for index in (0, 1):
        await store.put(INO, VERSION, index, bytes([index]) * BLOCK_SIZE)
    folder = volume_folder(tmp_path / "cache")
    one, other = (folder / BlockKey(INO, VERSION, index).file_name() for index in (0, 1))
    shutil.copy(one, other)
    expect_log("was not what was stored, and is dropped")
    assert await store.get(INO, VERSION, 1) is None
    assert not store.has(INO, VERSION, 1)
    assert await store.get(INO, VERSION, 0) == bytes(BLOCK_SIZE)


async def test_another_key_opens_no_block(make_store: MakeStore, expect_log: ExpectLog) -> None:
    first = await make_store(keys=KEYS)
    await first.put(INO, VERSION, 0, SECRET)
    await first.aclose()
    second = await make_store(keys=Keys(bytes(32), Cipher.AES))
    expect_log("was not what was stored, and is dropped")
    assert await second.get(INO, VERSION, 0) is None


@pytest.mark.parametrize("length", [-1, -17, 0, 1 << 40])
def test_an_index_that_was_tampered_with_is_not_believed(length: int) -> None:
    """It is not sealed itself."""
    form = SealedValues(Keys(bytes(range(32)), Cipher.AES), "store")
    key = BlockKey(Ino(7), ContentVersion(3), 0)
    value = bytes(form.close(key, b"content", None)[0])
    assert form.open(key, value, length, 0) is None
