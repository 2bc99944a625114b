"""Every error the library raises on purpose.

Each child of `LoraGenError` also inherits a builtin, so `except ValueError` keeps working, and
carries a stable `code` that programs can match while the sentence stays free to improve.

    LoraGenError
    ├── AdapterFormatError(ValueError)      FORMAT   bytes are not a well-formed adapter file
    ├── AdapterLimitError(ValueError)       LIMIT    well-formed, but larger than the limits allow
    ├── AdapterConfigError(ValueError)      CONFIG   the config asks for what is not supported
    ├── AdapterMismatchError(ValueError)    MISMATCH config, tensors and base do not agree
    ├── AdapterValueError(ValueError)       VALUES   numbers are not finite or overflow
    ├── UnsafeFileError(ValueError)         UNSAFE   opening it could run code
    ├── ArchiveError(ValueError)            ARCHIVE  a zip file is damaged, or leaves its folder
    ├── OutputPathError(OSError)            PATH     the output exists, or is not ours to write
    ├── StorageError(OSError)               SPACE    the disk refused a write
    ├── LayoutMismatchError(ValueError)     MISMATCH tokens, layout and base do not agree
    ├── ConditionError(ValueError)          CONFIG   text, prompts or examples cannot be encoded
    ├── BaseModelError(ValueError)          BASE     the base model is unknown or not supported
    ├── GeneratorError(ValueError)          CONFIG   the generator or noise scheduler cannot do it
    ├── ConfigError(ValueError)             CONFIG   a recipe or option is wrong
    ├── ZooError(ValueError)                STORE    the zoo refuses, or is damaged
    ├── LockedError(RuntimeError)           LOCKED   another process holds it
    ├── MemoryLimitError(MemoryError)       BUSY     there is too little memory for it now
    ├── CheckpointError(RuntimeError)       CKPT     a checkpoint cannot be resumed
    └── MissingDependencyError(ImportError) CONFIG   an optional package has to be installed
"""

from __future__ import annotations


class LoraGenError(Exception):
    """Root of the library's errors; `str(error)` is one sentence that says what to do next."""

    code = "ERROR"


class AdapterFormatError(LoraGenError, ValueError):
    """The bytes are not a well-formed adapter file."""

    code = "FORMAT"


class AdapterLimitError(LoraGenError, ValueError):
    """The file is well-formed but exceeds a limit."""

    code = "LIMIT"


class AdapterConfigError(LoraGenError, ValueError):
    """The adapter's config asks for something that is not supported."""

    code = "CONFIG"


class AdapterMismatchError(LoraGenError, ValueError):
    """Config, tensors and base model do not agree."""

    code = "MISMATCH"


class AdapterValueError(LoraGenError, ValueError):
    """A tensor holds values that are not finite or overflow."""

    code = "VALUES"


class UnsafeFileError(LoraGenError, ValueError):
    """Opening the file could run code."""

    code = "UNSAFE"


class ArchiveError(LoraGenError, ValueError):
    """A zip file is damaged, ambiguous, or its names leave the archive."""

    code = "ARCHIVE"


class OutputPathError(LoraGenError, OSError):
    """The output path exists, or is not ours to write."""

    code = "PATH"


class StorageError(LoraGenError, OSError):
    """The disk refused a write."""

    code = "SPACE"


class LayoutMismatchError(LoraGenError, ValueError):
    """Tokens and layout, or layout and base, do not agree."""

    code = "MISMATCH"


class ConditionError(LoraGenError, ValueError):
    """Text, prompts or examples cannot be encoded."""

    code = "CONFIG"


class BaseModelError(LoraGenError, ValueError):
    """The base model is unknown or not supported."""

    code = "BASE"


class GeneratorError(LoraGenError, ValueError):
    """The generator or its noise scheduler cannot do what was asked."""

    code = "CONFIG"


class ConfigError(LoraGenError, ValueError):
    """A recipe or an option is wrong."""

    code = "CONFIG"


class ZooError(LoraGenError, ValueError):
    """The zoo refuses an entry, or is damaged."""

    code = "STORE"


class LockedError(LoraGenError, RuntimeError):
    """Another process holds the store or the output."""

    code = "LOCKED"


class MemoryLimitError(LoraGenError, MemoryError):
    """There is too little memory for it now."""

    code = "BUSY"


class CheckpointError(LoraGenError, RuntimeError):
    """A checkpoint cannot be resumed."""

    code = "CKPT"


class MissingDependencyError(LoraGenError, ImportError):
    """An optional package has to be installed."""

    code = "CONFIG"
