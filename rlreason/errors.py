"""What a user did wrong, as opposed to what the program did wrong."""


class UserError(Exception):
    """A mistake that the user can fix; the command line prints it as one line and exits with code 2.

    The message says what is wrong and what to do about it, and names the offending value.
    """


class FolderRefused(UserError):
    """A run folder belongs to another configuration or another process, and must be left alone."""
