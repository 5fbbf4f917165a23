"""Where objects are kept: one protocol over a local folder and over S3."""
