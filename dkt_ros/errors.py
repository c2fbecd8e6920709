"""The package's user-facing error. Knows nothing of where it is raised or shown."""


class DktError(Exception):
    """A problem that the user can mend.

    The message says what was found, what was expected and what to do; the command line prints it
    as one line and exits with status 2, nodes log it and name it in diagnostics.
    """
