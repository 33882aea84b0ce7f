"""A draw's randomness depends on its place, and has the distribution it claims."""

import numpy as np

from ramet.runtime.sampling.keys import noise, sample_key


def test_keys_differ_by_seed_path_and_branch() -> None:
    places = [(s, p, b) for s in (0, 1, 2**64 - 1) for p in ("", "a/1", "a/12") for b in (0, 1, 12)]
    keys = {sample_key(*place) for place in places}
    assert len(keys) == len(places)
    assert all(0 <= key < 2**128 for key in keys)
    assert sample_key(1, "é", 0) == sample_key(1, "é".encode(), 0)
    assert sample_key(1, "2:", 3) != sample_key(12, ":", 3)


def test_noise_is_the_same_for_ever() -> None:
    """The raw integers are numpy's promise; these values pin the way from them to floats."""
    drawn = noise(sample_key(7, "root/gen", 0), 5, 4)
    raw = np.random.Philox(key=sample_key(7, "root/gen", 0), counter=5 << 64).random_raw(2)
    words = [int(word) >> shift & 0xFFFFFFFF for word in raw for shift in (0, 32)]
    expected = [-np.log1p(-(word + 0.5) / 2**32) for word in words]
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    np.testing.assert_array_equal(drawn, noise(sample_key(7, "root/gen", 0), 5, 4))


def test_noise_of_more_begins_with_the_noise_of_less() -> None:
    np.testing.assert_array_equal(noise(3, 9, 1000)[:77], noise(3, 9, 77))


def test_positions_and_keys_do_not_overlap() -> None:
    drawn = np.stack([noise(key, at, 256) for key in (1, 2, 2**127) for at in range(50)])
    by_chance = drawn.size**2 / 2 / 2**24
    assert drawn.size - len(np.unique(drawn)) < 2 * by_chance
    assert len(np.unique(drawn[:, :4], axis=0)) == len(drawn)


def test_another_attempt_has_other_noise() -> None:
    first, second = (noise(7, 3, 100, attempt) for attempt in (0, 1))
    assert not (first == second).any()
    assert not (second == noise(7, 4, 100)).any()


def test_noise_is_exponential_down_to_the_small_end() -> None:
    drawn = np.concatenate([noise(11, at, 100_000) for at in range(20)])
    assert drawn.dtype == np.float32
    assert drawn.min() > 0
    assert np.isfinite(drawn).all()
    assert abs(drawn.mean() - 1) < 0.005
    assert abs((drawn < 1e-3).mean() / 1e-3 - 1) < 0.1
    assert 3 < (drawn < 1e-5).sum() < 50  # 20 expected
    correlation = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert abs(correlation) < 0.003


def test_noise_is_never_zero_or_infinite() -> None:
    """The ends of the 32-bit range, which no test draws."""
    ends = np.array([0, 1, 2**32 - 1, 2**32 - 2], np.uint32)
    raw = ends.view(np.uint64)

    class Ends:
        def __init__(self, key: int, counter: int) -> None:
            pass

        def random_raw(self, count: int) -> np.ndarray:
            return raw[:count]

    original = np.random.Philox
    try:
        np.random.Philox = Ends
        drawn = noise(0, 0, 4)
    finally:
        np.random.Philox = original
    assert (drawn > 0).all()
    assert np.isfinite(drawn).all()
