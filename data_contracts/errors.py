"""What goes wrong in ways a user can act on.

Every error carries the problem and the fix, each one line. The CLI prints them
and exits with `exit_code`; nothing else in Evergreen is ever caught for display.
"""


class EvergreenError(Exception):
    """A problem the user can act on: what is wrong and what to do about it.

    `transient` says that it may be gone when tried again (a network that did not answer).
    """

    exit_code = 1

    def __init__(self, problem: str, fix: str, *, transient: bool = False) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.problem} -- {self.fix}"


class ConfigError(EvergreenError):
    """A setting, file of settings or command-line argument is wrong."""

    exit_code = 2


class DataError(EvergreenError):
    """The data as a whole cannot be used (one bad row among good ones is quarantined instead)."""


class ModelError(EvergreenError):
    """A base model, tokenizer or adapter cannot be used."""


class TrainingError(EvergreenError):
    """The training job failed."""


class RegistryError(EvergreenError):
    """The model registry does not hold what was asked for."""


class StackError(EvergreenError):
    """A local service could not be started or reached, or the machine lacks what a run needs."""


class DiskError(EvergreenError):
    """A disk is full, or what has to be written there may not be."""


class RowRejected(Exception):
    """One row cannot go on. Carries the rule it broke, never its text."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
