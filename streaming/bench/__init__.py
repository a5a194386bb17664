"""``streaming.bench``: what an answer costs as the frame count grows, beside what others do."""
