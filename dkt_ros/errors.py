"""The package's user-facing error. Knows nothing of where it is raised or shown."""

from dkt_ros.wording import one_line


class DktError(Exception):
    """A problem that the user can mend.

    The message says what was found, what was expected and what to do, as one line whatever the
    names in it hold; the command line prints it and exits with status 2, nodes log it and name it
    in diagnostics.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())
