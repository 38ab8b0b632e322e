"""What a user did wrong, as opposed to what the program did wrong, and the exit code of each ending."""

CRASHED = 1
USER_ERROR = 2
LEFT_ALONE = 3  # of a process that missed another one
INTERRUPTED = 130


def in_one_line(text: object, most: int | None = None) -> str:
    """Text, or what an error says (its kind, where it says nothing), without line breaks; empty for None.

    Args:
        text: The text or the error.
        most: Characters of it that are kept; None: all.
    """
    words = str("" if text is None else text).split()
    return " ".join(words)[:most] or (type(text).__name__ if isinstance(text, BaseException) else "")


class UserError(Exception):
    """A mistake that the user can fix; the command line prints it as one line and exits with code 2.

    The message says what is wrong and what to do about it, and names the offending value.
    """


class NothingToLearn(UserError):
    """What was sampled is all right or all wrong, so that nothing can be learned from telling it apart."""


class FolderRefused(UserError):
    """A run folder belongs to another configuration or another process, and must be left alone."""


class Failed(Exception):
    """Processes of a run or jobs of a sweep failed; the command line prints the message as one line.

    Args:
        message: Which failed and how.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = CRASHED) -> None:
        super().__init__(message)
        self.code = code
