"""How good a document is, for ranking the domain sources: lower scores are better.

``train_scorer`` makes a model folder from reference (and general) text, ``load_scorer`` reads it in every process.
"""

from pipelines.quality.config import QualityConfig
from pipelines.quality.conversations import ColumnScorer
from pipelines.quality.model import load_column_scorer, load_scorer, model_digest, train_scorer
from pipelines.quality.preview import preview
from pipelines.quality.scorers import Scorer

__all__ = [
    "ColumnScorer",
    "QualityConfig",
    "Scorer",
    "load_column_scorer",
    "load_scorer",
    "model_digest",
    "preview",
    "train_scorer",
]
