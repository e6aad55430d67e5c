"""A model in use: `localizer` finds landmarks in photographs, `export` writes a model as one file, `run_engine` runs a run directory."""
