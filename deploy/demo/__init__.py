"""The main job on real pictures: `make demo`."""
