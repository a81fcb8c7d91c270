"""Floor 1: MLflow run tree, data lineage, plots and the HTML report. Imports only ``ground``; never Ray or torch."""
