"""The store of a recipe, in a folder or in an object store."""

from __future__ import annotations

from cluster.recipe import Recipe
from pipelines.store import TokenStore
from pipelines.store_cache import cache_in
from pipelines.store_remote import open_store


def store_of(recipe: Recipe, *, verify: bool = False) -> TokenStore:
    """Open the store that a recipe reads.

    Args:
        verify: compare every checksum. Pieces of a store at a URL are compared when a node fetches them instead: here that
            would fetch them all.

    Raises:
        UserError: there is no complete store, or its URL refuses.
        CorruptError: something does not match its checksum.
    """
    if recipe.store_url:
        return open_store(recipe.store_url, cache_in(recipe.cluster.cache_folder, recipe.cluster.cache_gb))
    return TokenStore.open(recipe.store_folder, verify=verify)
