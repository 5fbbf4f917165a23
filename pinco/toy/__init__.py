"""The built-in model: procedural product scenes, and a small trained backbone with its adapter for any machine."""
