"""Floor 0: what every room stands on (errors, configuration base, durable files). Imports no other room."""
