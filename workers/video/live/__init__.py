"""Sources that are read while they happen: cameras, playlists, files at their own pace."""
