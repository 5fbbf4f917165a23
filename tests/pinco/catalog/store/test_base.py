from __future__ import annotations

import pytest

from pinco.catalog.store.base import ObjectNotFoundError, Store


def test_what_is_put_is_there(store: Store) -> None:
    assert store.head("a/b.txt") is None
    assert store.put_if_absent("a/b.txt", b"one", "text/plain")
    info = store.head("a/b.txt")
    assert info is not None
    assert (info.key, info.size) == ("a/b.txt", 3)
    assert info.modified.utcoffset() is not None
    assert store.get("a/b.txt") == b"one"


def test_a_taken_key_keeps_its_content(store: Store) -> None:
    assert store.put_if_absent("key", b"first")
    assert not store.put_if_absent("key", b"second")
    assert store.get("key") == b"first"


def test_the_error_of_a_missing_object_names_its_address(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError, match="missing/thing"):
        store.get("missing/thing")


def test_listing_is_by_prefix_and_in_order(store: Store) -> None:
    for key in ("b/2", "a/1", "b/10", "bc"):
        store.put_if_absent(key, b"x")
    assert [info.key for info in store.list()] == ["a/1", "b/10", "b/2", "bc"]
    assert [info.key for info in store.list("b/")] == ["b/10", "b/2"]
    assert [info.key for info in store.list("b")] == ["b/10", "b/2", "bc"]
    assert list(store.list("nothing/")) == []


def test_listing_and_head_agree(store: Store) -> None:
    store.put_if_absent("x", b"12345")
    assert list(store.list()) == [store.head("x")]


def test_delete_removes_and_accepts_absence(store: Store) -> None:
    store.put_if_absent("x", b"1")
    store.delete("x")
    store.delete("x")
    assert store.head("x") is None
    assert store.put_if_absent("x", b"2")


def test_many_are_removed_at_once(store: Store) -> None:
    for key in ("a/1", "a/2", "b"):
        store.put_if_absent(key, b"x")
    store.delete_many(["a/1", "a/2", "never was there"])
    store.delete_many([])
    assert [info.key for info in store.list()] == ["b"]
