"""The night job: settings, Ray actors, the dispatch loop that drives them, Prefect flows and the `pinco` command."""
