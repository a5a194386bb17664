"""What pruning costs: every method on the same questions, frames and features."""
