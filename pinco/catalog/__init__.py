"""The domain: sheet, job, manifest, store, report. Imports neither torch nor the adapter."""
