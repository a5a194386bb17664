"""Questions about what is happening: a clip that grows, with a bank that does not."""
