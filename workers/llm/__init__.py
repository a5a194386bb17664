"""The language model: the prompt, the prefix caches, the answer."""
