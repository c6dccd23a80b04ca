"""The exceptions of Pleach. Every message says what is wrong, where, and what to do."""


class PleachError(Exception):
    """Base of every error that is the input's fault and not ours."""


class FormatError(PleachError):
    """A bitstream that docs/bitstream.md refuses.

    ``offset`` is the byte at which the reader noticed, ``None`` where the whole file is meant.
    """

    def __init__(self, message: str, offset: int | None = None):
        self.offset = offset
        super().__init__(message if offset is None else f"byte {offset}: {message}")


class ModelError(PleachError):
    """A network or a compressed model that cannot be represented; names the layer."""


class CapacityError(PleachError):
    """A model that does not fit an engine, or an engine a chip; gives the numbers."""


class ConfigError(PleachError, ValueError):
    """A setting out of range, or a name that does not exist."""


class DataError(PleachError):
    """A data set or checkpoint that is missing or damaged."""


class TrainingError(PleachError):
    """Something that failed after training began; it hands out what was trained.

    Attributes:
        network: the torch module as it stood, its masks and shared weights in it.
        stages: the `pleach.compression.Stage` of each step that was done and reported.
    """

    def __init__(self, message: str, network=None, stages=()):
        self.network, self.stages = network, tuple(stages)
        super().__init__(message)


class ToolError(PleachError):
    """A simulator or synthesis tool that failed; names its log."""


class WorkerError(PleachError):
    """A job that no worker could do, or workers that are gone."""


class NotInstalledError(PleachError, ModuleNotFoundError):
    """A package that this part needs and that is not installed; says what to install.

    ``name`` is the module, as every ModuleNotFoundError has it.
    """


class LinkError(PleachError):
    """A link to an engine that failed: no answer in time, or words that are none."""


class EngineRefused(PleachError):
    """A packet that the engine refused.

    Attributes:
        error: the `pleach.engine.protocol.EngineError` that it gave.
        detail: of the answer; of CAPACITY the `pleach.engine.protocol.Resource`.
    """

    def __init__(self, message: str, error: int, detail: int = 0):
        self.error, self.detail = error, detail
        super().__init__(message)


class PleachWarning(UserWarning):
    """What goes on, but perhaps not as it was meant; says what to do."""


class GuessWarning(PleachWarning):
    """A network that is hardly better than a guess before anything was done to it."""
