"""The emulated cloud deploys what template.yaml has."""

from __future__ import annotations

from tests.emulators.cloud import allowed_by, deployment, emulated_cloud

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


def test_what_is_deployed_has_no_setting_of_the_other_function() -> None:
    """Nor one that every test has, such as the watch that is off."""
    with emulated_cloud(environment=GIVEN) as cloud:
        creation, sweep = (each.function.environment for each in (cloud.function, cloud.sweeper))

    assert sweep.items() >= {**GIVEN, "GUARD_WATCH_SECONDS": "0"}.items()
    assert not {"GUARD_SWEEP_EVERY", "GUARD_WATCH_SECONDS"} & creation.keys()
    assert creation["GUARD_SWEEP_REGIONS"] == "cn-shanghai"
