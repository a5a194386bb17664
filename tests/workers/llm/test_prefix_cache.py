import pytest

from workers.llm.prefix_cache import PrefixCache


def test_what_was_used_longest_ago_makes_room() -> None:
    cache: PrefixCache[str] = PrefixCache(10)
    for key in "abc":
        cache.put(key, key.upper(), 3)
    assert cache.get("a") == "A"
    cache.put("d", "D", 4)
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]
    assert (len(cache), cache.num_tokens) == (3, 10)
    assert cache.get("b") is None


@pytest.mark.parametrize("max_tokens", [0, 10])
def test_one_entry_may_be_larger_than_all_the_room(max_tokens: int) -> None:
    cache: PrefixCache[str] = PrefixCache(max_tokens)
    cache.put("small", "s", 1)
    cache.put("large", "l", 99)
    assert cache.get("large") == "l"
    assert len(cache) == 1
    cache.put("next", "n", 1)
    assert cache.get("large") is None
    assert cache.num_tokens == 1


def test_room_is_made_beforehand() -> None:
    cache: PrefixCache[str] = PrefixCache(10)
    cache.put("a", "A", 6)
    cache.reserve(4)
    assert "a" in cache
    cache.reserve(5)
    assert len(cache) == cache.num_tokens == 0


def test_an_entry_is_replaced_and_dropped() -> None:
    cache: PrefixCache[str] = PrefixCache(10)
    cache.put("a", "A", 6)
    cache.put("a", "B", 7)
    assert (cache.get("a"), cache.num_tokens) == ("B", 7)
    cache.drop("a")
    cache.drop("a")
    assert "a" not in cache
