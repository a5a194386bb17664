"""Where stages run: in this process or on a Ray cluster, and who does what next."""
