"""The verdict bus: what subscribers see."""
