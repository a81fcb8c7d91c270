"""Floor 1: the MLflow run tree, data lineage, plots and the HTML report. Imports only ``ground``; never Ray or torch."""
