"""A server that keeps the models and the clips warm, and speaks OpenAI's language."""
