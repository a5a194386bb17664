"""The model ``mr_stream`` of lmms-eval."""
