"""Sheet, photos and store on S3 (moto's real server), written by real Ray workers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from pinco.catalog.delivery.images import key_of_image
from pinco.catalog.manifest.readers import read_rows
from pinco.catalog.manifest.table import ManifestTable
from pinco.catalog.store.access import StoreAccess

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_running")]


def test_from_s3_to_s3(shop: Any, s3_endpoint: str) -> None:
    sheet = Path(shop.sheet([{"sku": "ball", "prompt": "on grass"}, {"sku": "broken", "prompt": "on sand"}]))
    photo = shop.photo("ball", 40)
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="shop")
    client.upload_file(str(photo), "shop", "photos/ball.png")
    client.put_object(Bucket="shop", Key="photos/broken.jpg", Body=b"")
    client.upload_file(str(sheet), "shop", "sheets/tonight.csv")

    settings = shop.settings.model_copy(update={"s3_endpoint": s3_endpoint})
    shop = replace(shop, settings=settings, store="s3://shop/images", catalog="s3://shop/photos")
    summary = shop.run("s3://shop/sheets/tonight.csv")
    assert summary.error is None
    assert str(summary.report).startswith("s3://shop/images/reports/")

    store = StoreAccess(s3_endpoint).open("s3://shop/images")
    rows = {row.sku: row for row in read_rows(ManifestTable(store))}
    assert (rows["broken"].status, rows["broken"].error_type) == ("failed", "empty_photo")
    ball = rows["ball"]
    assert (ball.source_uri, ball.core_identical) == ("s3://shop/photos/ball.png", True)
    assert str(ball.image_uri).startswith("s3://shop/images/images/")
    assert hashlib.sha256(store.get(key_of_image(str(ball.image_uri)))).hexdigest() == ball.image_sha256

    again = shop.run("s3://shop/sheets/tonight.csv")
    assert (again.made, again.done_before) == (0, 1)
