"""The embedded default: procedural product scenes, and a small trained backbone with its adapter that runs anywhere."""
