"""How Linegate is put on a machine, and the demonstration of its main job."""
