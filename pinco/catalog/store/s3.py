"""A store on S3, or on any server with the S3 API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pinco.catalog.store.base import ObjectInfo, ObjectNotFoundError, StoreError
from pinco.catalog.store.s3_retries import BODY_ATTEMPTS, BODY_ERRORS, RetryWatch, log_cut_body

MAX_CONNECTIONS = 64
"""At least as many as there are threads on one store, so that none waits for a connection."""

_PAGE = 1000
_DEFAULT_REGION = "us-east-1"
_ABSENT = {"NoSuchKey", "404", "NotFound"}


class _KeyTakenError(StoreError):
    """412: the key exists."""


class _ConflictError(StoreError):
    """409: another conditional write of this key is still running."""


class S3Store:
    """Objects under `s3://bucket/prefix`, created with `If-None-Match: *`.

    Args:
        uri: `s3://bucket/prefix`.
        endpoint: URL of an S3-compatible server; None = AWS, or the server of the AWS variables.
        region: AWS region; None = the usual AWS configuration.
        profile: Named profile of the AWS configuration files; None = the default one.

    Raises:
        StoreError: The address is not one of S3, or the configuration cannot be used.
    """

    def __init__(
        self, uri: str, *, endpoint: str | None = None, region: str | None = None, profile: str | None = None
    ) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise StoreError(f"{uri!r} is not an S3 address; write s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._session = _session(region, profile)
        self._client = _client(endpoint, region, profile)

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def uri_of(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return self._read(key)

    @retry(
        retry=retry_if_exception_type(BODY_ERRORS),
        stop=stop_after_attempt(BODY_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        before_sleep=log_cut_body,
        reraise=True,
    )
    def _read(self, key: str) -> bytes:
        """The object's bytes, all of them; botocore repeats requests, but not the reading of an answer's body."""
        answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        data: bytes = answer["Body"].read()
        expected = answer.get("ContentLength", len(data))
        if len(data) != expected:
            raise botocore.exceptions.IncompleteReadError(actual_bytes=len(data), expected_bytes=expected)
        return data

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._errors(key):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ObjectNotFoundError:
            return None
        return ObjectInfo(
            key, answer["ContentLength"], answer["ETag"].strip('"'), answer["LastModified"].astimezone(UTC)
        )

    def put_if_absent(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Create the object; see `Store.put_if_absent`.

        When the server's answer is lost, boto3 repeats the request, and this returns False for an object that it has
        written itself. A caller for whom that matters reads the object back.
        """
        try:
            self._create(key, data, content_type)
        except _KeyTakenError:
            return False
        except _ConflictError as error:
            raise StoreError(
                f"{self.uri_of(key)} cannot be written: other writers of the same object keep interfering. "
                "Run the command again."
            ) from error
        return True

    @retry(
        retry=retry_if_exception_type(_ConflictError),
        stop=stop_after_attempt(8),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    def _create(self, key: str, data: bytes, content_type: str) -> None:
        with self._errors(key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, ContentType=content_type, IfNoneMatch="*"
            )

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": _PAGE}
        )
        with self._errors(prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    yield ObjectInfo(key, item["Size"], item["ETag"].strip('"'), item["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def delete_many(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _PAGE):
            objects = [{"Key": self._prefix + key} for key in keys[start : start + _PAGE]]
            with self._errors(keys[start]):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            for refused in answer.get("Errors", []):
                raise StoreError(
                    f"s3://{self._bucket}/{refused['Key']} cannot be deleted: {self._server} answered "
                    f"{refused['Code']}. Check what the credentials may do with this bucket."
                )

    def sweep(self, before: datetime) -> int:
        del before  # a single PUT is whole or nothing
        return 0

    def object_store_options(self) -> dict[str, str]:
        with self._errors(""):
            credentials = self._session.get_credentials()
            if credentials is None:
                raise botocore.exceptions.NoCredentialsError
            frozen = credentials.get_frozen_credentials()
        server: str = self._client.meta.endpoint_url
        options = {
            "aws_access_key_id": frozen.access_key,
            "aws_secret_access_key": frozen.secret_key,
            "aws_endpoint_url": server,
            "aws_region": self._client.meta.region_name or _DEFAULT_REGION,
            "aws_virtual_hosted_style_request": "false",
            "aws_conditional_put": "etag",  # If-None-Match: a table's version is created by exactly one writer
            "allow_http": str(server.startswith("http://")).lower(),
        }
        return options | ({"aws_session_token": frozen.token} if frozen.token else {})

    def presign(self, key: str, expires: int = 3600) -> str:
        with self._errors(key):
            url: str = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": self._prefix + key}, ExpiresIn=expires
            )
            return url

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn boto3's errors into errors that a person can act on."""
        where = self.uri_of(key)
        try:
            yield
        except botocore.exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code == "NoSuchBucket":
                raise StoreError(
                    f"{self.uri}: there is no bucket {self._bucket!r} at {self._server}. "
                    "Create it, or correct the address."
                ) from error
            if code in _ABSENT:
                raise ObjectNotFoundError(f"{where}: there is no such object") from error
            if status == 412:
                raise _KeyTakenError(where) from error
            if status == 409:
                raise _ConflictError(where) from error
            if status in (401, 403):
                raise StoreError(
                    f"{where}: access denied by {self._server} ({code}). Check the credentials (AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY or AWS_PROFILE) and what they may do with this bucket."
                ) from error
            raise StoreError(f"{where}: {self._server} answered {code or status}: {error}") from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreError(
                f"{where}: there are no S3 credentials. "
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            ) from error
        except BODY_ERRORS as error:
            raise StoreError(
                f"{where}: {self._server} keeps sending an incomplete answer ({error}). Run the command again later."
            ) from error
        except botocore.exceptions.ConnectionError as error:
            raise StoreError(
                f"{where}: {self._server} cannot be reached: {error}. Check the address of the server (--s3-endpoint, "
                "or s3_endpoint in the settings) and that it is running."
            ) from error
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            raise StoreError(f"{where}: {self._server} cannot be used: {error}") from error

    @property
    def _server(self) -> str:
        return self._endpoint or "AWS"


@cache
def _session(region: str | None, profile: str | None) -> Any:
    """One session, and so one set of credentials that renews itself, per way of access and process."""
    try:
        return boto3.Session(region_name=region, profile_name=profile)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise StoreError(f"S3 cannot be used as it is configured: {error}") from error


@cache
def _client(endpoint: str | None, region: str | None, profile: str | None) -> Any:
    """One client, and so one connection pool, per process and access; boto3's clients are thread-safe."""
    config = botocore.config.Config(
        s3={"addressing_style": "path"},
        retries={"mode": "adaptive", "max_attempts": 10},
        max_pool_connections=MAX_CONNECTIONS,
        connect_timeout=5,
        read_timeout=60,
    )
    try:
        client = _session(region, profile).client("s3", endpoint_url=endpoint, config=config)
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise StoreError(f"S3 cannot be used as it is configured: {error}") from error
    RetryWatch(endpoint or "AWS").attach(client)
    return client
