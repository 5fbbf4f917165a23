"""One row per requested image: the schema, the table, its readers."""
