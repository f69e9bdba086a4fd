"""All methods of this package by name, known to mergekit too once this module is imported."""

from mergekit.merge_methods import registry

from taxlt_mergekit.merge.methods.base import CheckpointMethod
from taxlt_mergekit.merge.methods.fisher import fisher
from taxlt_mergekit.merge.methods.stock import StockMerge, fits
from taxlt_mergekit.merge.methods.vectors import additive, analogy

_OWN: tuple[CheckpointMethod, ...] = (additive, analogy, fisher)
_NAMES = {method.spec.name for method in _OWN}
# mergekit's, and those that others registered before: by their contracts, so that a new one needs no line.
_STOCK = [
    StockMerge(method)
    for method in registry.registered_methods()
    if not isinstance(method, CheckpointMethod) and fits(method) and f"xlt_{method.spec.name}" not in _NAMES
]
METHODS: dict[str, CheckpointMethod] = {method.spec.name: method for method in (*_OWN, *_STOCK)}

_known = {method.spec.name for method in registry.registered_methods()}
for name, method in METHODS.items():
    if name not in _known:  # a mergekit that reads entry points may have come first
        registry.register(method)
