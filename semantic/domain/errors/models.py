"""What can't be loaded, fetched or run."""

from semantic.domain.errors.base import SemanticError


class ModelError(SemanticError):
    """Base of errors about finding and loading a model."""


class ModelNotFoundError(ModelError):
    """No model goes by this name, and no folder or file lies at this path. The message lists near names."""


class ModelDamagedError(ModelError):
    """The model's files are truncated, altered or not what they claim to be. Fetch them again."""


class UnsupportedArchitectureError(ModelError):
    """The file is readable but its architecture, or a tensor type in it, is not served."""


class AdapterError(ModelError):
    """The adapter is missing, damaged, or made for another model. Name a folder that mlx_lm.lora wrote for this one."""


class DownloadError(ModelError):
    """The model could not be fetched. The message says from where, and how to provide it by hand."""


class BlasNotFoundError(SemanticError):
    """OpenBLAS was asked for and could not be loaded. `semantic doctor` shows what was tried."""
