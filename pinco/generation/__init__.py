"""One catalog image from a photo, a prompt and a model. Needs no Ray, no Prefect and no store."""
