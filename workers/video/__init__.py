"""Reading a clip: what it holds, which frames are looked at, and their pictures."""
