"""Keys: what they depend on, and what they do not."""

from xxhash import xxh3_128_digest

from ramet.cache.hashing import KeyChain


def test_the_rule_as_written() -> None:
    chain = KeyChain(3, b"model")
    root = xxh3_128_digest(xxh3_128_digest(b"model", 3) + b"tenant", 3)
    first = xxh3_128_digest(root + bytes([5] + [0] * 7 + [6] + [0] * 7), 3)
    assert chain.root(b"tenant") == root
    assert chain.extend(root, [5, 6]) == first


def test_everything_named_changes_the_key() -> None:
    keys = {
        KeyChain(seed, fingerprint).root(scope)
        for seed in (0, 1)
        for fingerprint in (b"", b"a", b"ab")
        for scope in (b"", b"b", b"bb")
    }
    assert len(keys) == 18


def test_order_parent_and_length_count() -> None:
    chain = KeyChain(0, b"")
    root = chain.root(b"")
    one = chain.extend(root, [1, 2])
    other = chain.extend(root, [2, 1])
    keys = {root, one, other, chain.extend(one, [1, 2]), chain.extend(root, [1])}
    assert len(keys) == 5
    assert {len(key) for key in keys} == {16}


def test_without_a_seed_chains_differ() -> None:
    assert KeyChain(None, b"").root(b"") != KeyChain(None, b"").root(b"")


def test_any_integer_is_a_seed() -> None:
    assert KeyChain(-1, b"").root(b"") == KeyChain((1 << 64) - 1, b"").root(b"")


def test_any_token_id_is_hashed() -> None:
    chain = KeyChain(0, b"")
    assert chain.extend(b"", [-1]) != chain.extend(b"", [2**62])
