from __future__ import annotations

import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.credentials
import botocore.exceptions
import pytest

from pinco.catalog.store import s3
from pinco.catalog.store.access import StoreAccess
from pinco.catalog.store.base import StoreError
from pinco.catalog.store.s3 import S3Store


def _answers(*outcomes: tuple[str, int] | None) -> Callable[..., Any]:
    """A `put_object` that answers with these errors, one after the other, and then with success."""
    left = list(outcomes)

    def put(**_: Any) -> dict[str, Any]:
        outcome = left.pop(0) if left else None
        if outcome is None:
            return {}
        code, status = outcome
        raise botocore.exceptions.ClientError(
            {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject"
        )

    return put


@pytest.fixture
def store(bucket: str, s3_endpoint: str) -> S3Store:
    return S3Store(f"s3://{bucket}/deep/prefix/", endpoint=s3_endpoint)


def test_objects_lie_under_the_prefix(store: S3Store, bucket: str, s3_endpoint: str) -> None:
    store.put_if_absent("images/x.png", b"1")
    assert store.uri == f"s3://{bucket}/deep/prefix"
    assert store.uri_of("images/x.png") == f"s3://{bucket}/deep/prefix/images/x.png"
    assert S3Store(f"s3://{bucket}", endpoint=s3_endpoint).get("deep/prefix/images/x.png") == b"1"


def test_a_long_listing_is_complete(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"many/{number}" for number in range(8)]
    for key in keys:
        store.put_if_absent(key, b"")
    monkeypatch.setattr(s3, "_PAGE", 3)
    assert [info.key for info in store.list("many/")] == keys


def test_a_presigned_address_opens_without_credentials(store: S3Store) -> None:
    store.put_if_absent("x.txt", b"hello", "text/plain")
    with urllib.request.urlopen(store.presign("x.txt", 60)) as answer:
        assert answer.read() == b"hello"
        assert answer.headers["Content-Type"] == "text/plain"


def test_a_missing_bucket_is_named_in_the_error(s3_endpoint: str) -> None:
    store = S3Store("s3://no-such-bucket/prefix", endpoint=s3_endpoint)
    for use in (lambda: store.get("x"), lambda: list(store.list()), lambda: store.put_if_absent("x", b"")):
        with pytest.raises(StoreError, match=r"no bucket 'no-such-bucket' at http.*Create it"):
            use()


def test_after_a_conflict_the_same_key_is_tried_again(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    conflict = ("ConditionalRequestConflict", 409)
    monkeypatch.setattr(store._client, "put_object", _answers(conflict, conflict))
    monkeypatch.setattr(S3Store._create.retry, "sleep", lambda seconds: None)  # type: ignore[attr-defined]
    assert store.put_if_absent("x", b"1")
    monkeypatch.setattr(store._client, "put_object", _answers(conflict, ("PreconditionFailed", 412)))
    assert not store.put_if_absent("x", b"1")
    monkeypatch.setattr(store._client, "put_object", _answers(*[conflict] * 100))
    with pytest.raises(StoreError, match="keep interfering"):
        store.put_if_absent("x", b"1")


def test_denied_access_names_the_credentials(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._client, "put_object", _answers(("AccessDenied", 403)))
    with pytest.raises(StoreError, match=r"access denied .*AWS_ACCESS_KEY_ID"):
        store.put_if_absent("x", b"1")


def test_other_answers_keep_their_code(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._client, "put_object", _answers(("EntityTooLarge", 400)))
    with pytest.raises(StoreError, match="answered EntityTooLarge"):
        store.put_if_absent("x", b"1")


def test_missing_credentials_are_named_in_the_error(monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3._session.cache_clear()
    s3._client.cache_clear()
    s3.boto3.setup_default_session()  # the default session remembers credentials
    try:
        with pytest.raises(StoreError, match="there are no S3 credentials"):
            S3Store("s3://bucket", endpoint=s3_endpoint).get("x")
    finally:
        monkeypatch.undo()
        s3._session.cache_clear()
        s3._client.cache_clear()
        s3.boto3.setup_default_session()


def test_an_unreachable_server_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch, store: S3Store) -> None:
    def fail(**_: Any) -> None:
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(store._client, "get_object", fail)
    with pytest.raises(StoreError, match="cannot be reached: Could not connect"):
        store.get("x")


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "bucket/prefix"])
def test_addresses_without_a_bucket_are_refused(uri: str) -> None:
    with pytest.raises(StoreError, match="write s3://bucket/prefix"):
        S3Store(uri)


def test_the_pool_serves_many_threads(store: S3Store) -> None:
    config = store._client.meta.config
    assert config.max_pool_connections >= 64
    assert config.s3["addressing_style"] == "path"
    assert config.retries["mode"] == "adaptive"


def test_there_is_nothing_to_sweep(store: S3Store) -> None:
    assert store.sweep(datetime.now(UTC)) == 0


def test_another_library_is_told_how_to_reach_the_same_place(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreAccess(s3_endpoint, region="eu-central-1").open(f"s3://{bucket}/x")
    assert store.object_store_options() == {
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_endpoint_url": s3_endpoint,
        "aws_region": "eu-central-1",
        "aws_virtual_hosted_style_request": "false",
        "aws_conditional_put": "etag",
        "allow_http": "true",
    }


def test_credentials_that_run_out_are_asked_for_again(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreAccess(s3_endpoint).open(f"s3://{bucket}/x")
    tokens = iter(["first", "second"])
    monkeypatch.setattr(
        store._session,  # type: ignore[attr-defined]
        "get_credentials",
        lambda: botocore.credentials.Credentials("key", "secret", next(tokens)),
    )
    assert [store.object_store_options()["aws_session_token"] for _ in range(2)] == ["first", "second"]


def test_without_an_endpoint_it_is_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    options = StoreAccess(region="eu-central-1").open("s3://bucket").object_store_options()
    assert options["aws_endpoint_url"] == "https://s3.eu-central-1.amazonaws.com"
    assert options["allow_http"] == "false"


def test_a_removal_that_is_refused_names_the_object(monkeypatch: pytest.MonkeyPatch, store: S3Store) -> None:
    refused = {"Errors": [{"Key": "prefix/x", "Code": "AccessDenied"}]}
    monkeypatch.setattr(store._client, "delete_objects", lambda **_: refused)
    with pytest.raises(StoreError, match=r"prefix/x cannot be deleted: .*AccessDenied"):
        store.delete_many(["x"])
