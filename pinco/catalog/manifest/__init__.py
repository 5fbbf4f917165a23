"""One row per requested image: the schema, the Delta table, its readers, its upkeep."""
