"""``fledge doctor``."""

from __future__ import annotations


def doctor() -> None:
    """Check the installation: versions, devices, and whether the pieces work together.

    Examples:

        fledge doctor
    """
    from fledge.diagnosis import diagnose

    checks = diagnose()
    for check in checks:
        print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    if not all(check.passed for check in checks):
        raise SystemExit(1)
