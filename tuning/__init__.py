"""Floor 4: the search under a budget. Its place in the layout; nothing is built yet."""
