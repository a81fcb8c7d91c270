"""Floor 3: the training core (plain Python on DeepSpeed) and, in ``launch.py`` only, its placement by Ray Train."""
