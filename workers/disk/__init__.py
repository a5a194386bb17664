"""Ranked tokens on disk: an entry, the folder that holds entries, what an encoder does there."""
