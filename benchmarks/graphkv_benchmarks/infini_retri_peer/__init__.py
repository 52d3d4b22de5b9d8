"""InfiniRetri beside the package of its authors, infini-retri 0.0.3: the same model, windows and settings, each in its own process and environment."""
