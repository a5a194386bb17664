"""What the user runs: commands, configuration and the pipeline."""
