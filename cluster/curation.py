"""``steady curate``: make the token store of a recipe, or look at its ranking first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster.console import console
from cluster.curation_log import log_curation
from cluster.funnel_view import show_funnel, show_preview
from cluster.recipe import ClusterConfig, Recipe
from ground.errors import UserError
from pipelines.curate import Curation
from pipelines.executor import Executor, Function, Item, Result
from pipelines.look import look
from pipelines.readers import expand_source
from pipelines.store import TokenStore
from pipelines.store_remote import publish
from pipelines.work import Work


def curate_recipe(recipe: Recipe) -> TokenStore:
    """Make the token store, show its funnel and log it to MLflow."""
    with _curation(recipe) as curation:
        store = curation.run()
    show_funnel(store.manifest.funnel)
    if recipe.store_url:
        publish(store, recipe.store_url)
    log_curation(recipe, store)
    console.print(f"store {recipe.store_url or store.path}, digest {store.digest}")
    if curation.config.excluded_share and (curation.work.folder / "excluded").is_dir():
        share = f"{curation.config.excluded_share:.0%}"
        console.print(f"{share} of what was dropped, with the reasons: {curation.work.folder / 'excluded'}")
    return store


def preview_recipe(recipe: Recipe, rows: int) -> None:
    """Show the best, middle and worst documents of the first few megabytes of every domain source."""
    with _curation(recipe) as curation:
        found = look(curation, rows)
    show_preview(found)


@contextmanager
def _curation(recipe: Recipe) -> Iterator[Curation]:
    """The curation of a recipe."""
    config = recipe.curation
    tokenizer = None if config.train_tokenizer else config.tokenizer or recipe.model.base
    if tokenizer is None and config.train_tokenizer is None:
        mend = "give one, or curation.train_tokenizer"
        raise UserError("curation.tokenizer", "is absent and there is no model.base", mend)
    if config.train_tokenizer is not None and config.tokenizer:
        raise UserError("curation.tokenizer", "stands beside train_tokenizer", "keep one of them")
    for name, source in recipe.sources.items():  # a misspelt path should not wait for Ray to start
        expand_source(source, f"sources.{name}")
        config.filters_of(source)
    folder = Path(config.work) if config.work is not None else recipe.work_folder / "curation"
    with ExitStack() as stack:
        work = Work(folder, _RayWhenNeeded(stack, recipe.cluster), _say)
        yield Curation(recipe.store_folder, recipe.sources, config, tokenizer, work)


class _RayWhenNeeded:
    """Starts Ray, or connects to the cluster, when the first items come: a store that is up to date needs neither."""

    def __init__(self, stack: ExitStack, where: ClusterConfig) -> None:
        self._stack, self._where = stack, where
        self._executor: Executor | None = None

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Index and result of every item, in the order in which they end."""
        if self._executor is None:
            from cluster.session import session
            from pipelines.ray_executor import RayExecutor

            self._stack.enter_context(session(self._where.address))
            self._executor = RayExecutor(gpu_nodes=self._where.curate_on_gpu_nodes)
        return self._executor.map(function, items)


def _say(stage: str, text: str) -> None:
    console.print(f"  [dim]{stage}:[/dim] {text}")
