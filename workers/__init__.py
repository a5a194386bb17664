"""Who does the work: decoding, encoding, the language model, and the actors that run them."""
