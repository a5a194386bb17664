"""From pictures to visual tokens: tiles, tower, projector."""
