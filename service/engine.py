"""What the embedded engines share: a child for a supervisor of more, or one alone."""

from abc import ABC, abstractmethod
from pathlib import Path

from service.children import Child
from service.supervisor import Supervisor


class Engine(ABC):
    """An embedded engine of a data folder. Its address is known before it runs, to every process of this user."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self._alone: Supervisor | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def child(self) -> Child:
        """
        Return the process for a supervisor.

        Raises:
            LauncherError: The wheel's binaries are missing, or the data folder cannot be made.
        """

    @abstractmethod
    def ready(self) -> bool:
        """Say whether it answers."""

    def start(self) -> None:
        """
        Run it with nothing else on its data folder, until `stop`; from the main thread.

        Raises:
            LauncherError: See `Supervisor`.
        """
        self._alone = Supervisor(self.data_dir, [self.child()]).__enter__()

    def stop(self) -> None:
        if self._alone is not None:
            self._alone.__exit__(None, None, None)
            self._alone = None
