"""For the line engineer: a few normal shots to a recipe that can be trusted."""
