"""What can go wrong on the read side: one small tree, translated from drivers inside the adapters."""


class ProjectionError(Exception):
    """The read side could not do what was asked."""


class TablesUnavailable(ProjectionError):
    """ClickHouse did not do it; a write may have happened. `code` is ClickHouse's error code, 0 if it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class CheckpointsUnavailable(ProjectionError):
    """The checkpoints' store did not answer; a write may have happened."""


class LeaseLost(ProjectionError):
    """Another projector has the table set now, or this one's range is not what it thought."""


class QueryRefused(ProjectionError):
    """The question cannot be asked so; `field` is the parameter that is wrong."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


def require(good: bool, field: str, why: str) -> None:  # noqa: FBT001 (what is required)
    """Raise `QueryRefused` unless *good*."""
    if not good:
        raise QueryRefused(field, why)


class QuestionTooLarge(ProjectionError):
    """The answer takes more time, rows or memory than one question may."""


class SchemaChanged(ProjectionError):
    """A numbered SQL file is not what it was when it was applied."""
