"""The page that shows what the language model was given of a clip."""
