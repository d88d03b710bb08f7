"""The emulated cloud deploys what template.yaml has."""

from __future__ import annotations

from tests.emulators.cloud import allowed_by, deployment

GIVEN = {
    # The template gives this one to both functions, this one to the sweep, and this one to neither.
    "GUARD_SWEEP_REGIONS": "cn-shanghai",
    "GUARD_SWEEP_EVERY": "60",
    "GUARD_MAX_ATTEMPTS": "2",
}


def test_a_setting_reaches_the_functions_that_the_template_gives_it_to() -> None:
    """A test with a setting of the sweep alone must not see the other function use it."""
    template = deployment()

    assert allowed_by(template, "sweep", GIVEN) == GIVEN
    assert allowed_by(template, "encrypt_on_create", GIVEN) == {
        "GUARD_SWEEP_REGIONS": "cn-shanghai",
        "GUARD_MAX_ATTEMPTS": "2",
    }
