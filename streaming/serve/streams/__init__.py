"""Live sources as a resource of the server: opened, listed, listened to, asked about, deleted."""
