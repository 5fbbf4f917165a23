"""The stores behind `pinco.catalog.store.Store`."""
