"""The entry point by which lmms-eval finds the model ``mr_stream``; see docs/lmms-eval.md."""

from typing import Any


def manifest() -> Any:
    """Return the ``ModelManifest`` of the model; only lmms-eval calls this, so only it is needed.

    The manifest names the class by its path: lmms-eval lists its models without importing them.
    """
    from lmms_eval.models.registry_v2 import ModelManifest  # type: ignore[import-not-found]

    return ModelManifest(model_id="mr_stream", chat_class_path="streaming.lmms_eval.model.MrStream")
