"""Floor 5: where work runs and who starts it: the ``steady`` command, the recipe, the Ray session."""
