"""The command line: one file per verb. Hydra and typer appear here only, and torch is loaded inside the commands."""
