"""Sources of frames. One file a device family."""
