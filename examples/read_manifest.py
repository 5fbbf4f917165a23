"""What a store holds: the manifest as an Arrow table, which DuckDB, Polars and pandas take as it is.

python examples/read_manifest.py out/
"""

import sys

import duckdb

from pinco import open_manifest, read_manifest

manifest = read_manifest(open_manifest(sys.argv[1]))
print(duckdb.sql("SELECT status, count(*) AS images FROM manifest GROUP BY status"))
print(duckdb.sql("SELECT sku, prompt, core_identical, image_uri FROM manifest ORDER BY sku LIMIT 5"))
