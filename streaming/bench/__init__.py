"""What a run is measured against, and how."""
