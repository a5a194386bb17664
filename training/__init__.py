"""How the embedded checkpoint is made: clips with answers, the trainer, the measurement."""
