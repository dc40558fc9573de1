"""tcseg: real-time, temporally consistent semantic segmentation of driving video. A course and a reproducible study.

    import tcseg
    model = tcseg.load_model("student")
    labels = model.predict(frames)

The public names are those in `__all__`. Each is imported when it is first used: `tcseg doctor` must work in a broken installation.
"""

from importlib import import_module

from .machine import prepare_caches as _prepare_caches

__version__ = "0.1.0"

_prepare_caches()  # before numba and matplotlib are imported, which read where they may write

_PLACES = {
    "load_model": "tcseg.api",
    "list_models": "tcseg.api",
    "build_model": "tcseg.models.registry:build",
    "predict": "tcseg.api",
    "segment_video": "tcseg.api",
    "evaluate": "tcseg.api",
    "evaluate_files": "tcseg.evaluation.label_map_files",
    "export": "tcseg.api",
    "quantize": "tcseg.deploy.quantization:convert",
    "benchmark": "tcseg.api",
    "Recipe": "tcseg.training.recipe",
    "train": "tcseg.training.loop",
    "adapt": "tcseg.adaptation.run",
    "load_clips": "tcseg.data.own.lookup",
    "open_study": "tcseg.study.opening",
    "MeanIoU": "tcseg.metrics.streaming",
    "TemporalConsistency": "tcseg.metrics.streaming",
    "FlickerRate": "tcseg.metrics.streaming",
    "CITYSCAPES": "tcseg.labels",
    "CAMVID": "tcseg.labels",
    "flow": "tcseg.flow:",
    "losses": "tcseg.training.losses:",
    "temporal_losses": "tcseg.training.temporal_losses:",
    "metrics": "tcseg.metrics:",
}
"""Public name -> "module", "module:its name there", or "module:" for the module itself."""
__all__ = ["__version__", *_PLACES]  # noqa: PLE0604 (they are names)


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'tcseg' has no attribute {name!r}; its public names are {', '.join(_PLACES)}")
    module, colon, other = _PLACES[name].partition(":")
    imported = import_module(module)
    value = imported if colon and not other else getattr(imported, other or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
