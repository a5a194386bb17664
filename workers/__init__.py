"""Who does the work: video decoding, vision encoding, the language model, and the actors that run them."""
