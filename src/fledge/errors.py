"""The errors fledge raises on purpose. Each message is one line: ``what: where: what to do``.

The command line prints the message without a traceback and exits with ``exit_code``; anything else that escapes is a
bug (exit code 1).
"""

from __future__ import annotations


class FledgeError(Exception):
    """Base of every error a user can cause or meet; never raised itself."""

    exit_code = 1


class UsageError(FledgeError):
    """A command, recipe or argument that cannot be right (exit code 2)."""

    exit_code = 2


class DataError(FledgeError):
    """Input data that fledge refuses: a bad label line, an unreadable image, a missing folder (exit code 3)."""

    exit_code = 3


class NumericError(FledgeError):
    """A number that is not finite where it must be (exit code 4)."""

    exit_code = 4


class ResourceError(FledgeError):
    """A disk, memory or file problem while reading or writing (exit code 5)."""

    exit_code = 5
