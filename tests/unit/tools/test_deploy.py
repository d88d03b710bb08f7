"""What `make deploy`, `make plan` and `make remove` decide, ask and say.

Serverless Devs and its account are in this process; tests/integration/tools has the real command.
"""

from __future__ import annotations

import io
import json
import re
import signal
from pathlib import Path
from unittest.mock import patch

import pytest

from encryption_guard.settings import Settings
from layers.encryption_guard.tools import deploy, preflight
from layers.encryption_guard.tools.comparison import Stack
from layers.encryption_guard.tools.preflight import REGIONS, Access
from layers.encryption_guard.tools.progress import Report, Terminal
from layers.encryption_guard.tools.serverless_devs import ServerlessDevs
from layers.encryption_guard.tools.tasks import Target
from tests.emulators.cloud import ACCOUNT
from tests.unit.tools.emulated_account import CREATE, KEY, SWEEP, Deployer, Place

HERE = ("--region", "cn-hangzhou")


def runtimes(deployer: Deployer, region: str) -> set[str]:
    """The runtimes of the functions in a region."""
    return {each["runtime"] for each in deployer.account.place(region).functions.values()}


# A deployment.


def test_a_deployment_has_an_order(deployer: Deployer) -> None:
    """Layer, stack and functions, then both functions are tried; the next commands follow."""
    result = deployer("deploy", *HERE)

    assert result.exit_code == 0, result.output
    words = [command.split(" -")[0] for command in deployer.account.commands]
    assert words == [
        "cn-hangzhou: sweep layer publish",
        "cn-hangzhou: deploy",
        "cn-hangzhou: sweep invoke",
        "cn-hangzhou: encrypt_on_create invoke",
    ]
    assert result.output.count("skipped: not_relevant") == 2
    queue = f"acs:mns:cn-hangzhou:{ACCOUNT}:/queues/oss-tables-encryption-guard-dead-letters"
    assert f"export GUARD_DEAD_LETTER_QUEUE={queue}\n" in result.output
    assert "make verify-live REGION=cn-hangzhou\n" in result.output


def test_an_upgrade_takes_the_new_layer(deployer: Deployer) -> None:
    """Both functions are moved to the version that was just published."""
    deployer("deploy", *HERE)
    deployer.account.version = 2

    upgraded = deployer("deploy", *HERE)

    assert upgraded.exit_code == 0
    used = [each["layers"] for each in deployer.account.place().functions.values()]
    assert [arn.rpartition("/")[2] for (arn,) in used] == ["2", "2"]


def test_each_region_gets_what_it_has(deployer: Deployer) -> None:
    """A region without events says so, and one without python3.12 gets the older one."""
    regions = ["us-east-1", "ap-southeast-1", "cn-hangzhou"]

    result = deployer("deploy", *(word for name in regions for word in ("--region", name)))

    assert result.exit_code == 0, result.output
    assert "OSS publishes no events in us-east-1: only the sweep" in result.output
    assert "Done in: us-east-1, ap-southeast-1, cn-hangzhou\n" in result.output
    assert [runtimes(deployer, name) for name in regions] == [
        {"python3.12"},
        {"python3.10"},
        {"python3.12"},
    ]


def test_one_region_that_fails_does_not_keep_the_next_from_it(deployer: Deployer) -> None:
    """Both are named, the failure with its cause, what to do, and where all of it stands."""
    cause = "EntityAlreadyExists.Role: guard"
    deployer.account.refuse = lambda region, *_: cause if region == "cn-hangzhou" else None

    result = deployer("deploy", *HERE, "--region", "cn-shanghai")

    assert result.exit_code == 1
    assert cause in result.output
    assert "run the command again" in result.output
    assert "build/deploy-cn-hangzhou.log" in result.output
    assert "Done in: cn-shanghai\n  Failed in: cn-hangzhou\n" in result.output
    assert Path("build", "deploy-cn-hangzhou.log").is_file()


def test_an_error_that_failed_nothing_is_shown(deployer: Deployer) -> None:
    """What Serverless Devs calls an error is not kept back, though it went on."""
    deployer.account.output = "[2026-11-23 01:00:00][ERROR][infra] something minor\n"

    result = deployer("deploy", *HERE)

    assert result.exit_code == 0, result.output
    assert "! [2026-11-23 01:00:00][ERROR][infra] something minor" in result.output
    assert "continued after this error" in result.output


@pytest.mark.parametrize("at_first", [True, False], ids=["while it is made", "before"])
def test_a_stack_that_was_never_complete_is_named(deployer: Deployer, *, at_first: bool) -> None:
    """No later deployment can update it: the error has its state, and that a removal helps."""
    told = "Stack status = CREATE_FAILED" if at_first else "ActionInvalid: cannot be updated"
    deployer.account.place().stack = Stack("CREATE_FAILED", {}, {})
    deployer.account.refuse = lambda *_: told

    result = deployer("deploy", *HERE)

    assert result.exit_code == 1
    assert "the stack oss-tables-encryption-guard is in CREATE_FAILED" in result.output
    assert "run `make remove REGION=cn-hangzhou`" in result.output


@pytest.mark.parametrize(
    ("place", "why"),
    [("{folder}/file/below", "Not a directory"), ("{folder}/full", "No space left on device")],
    ids=["no folder", "a full disk"],
)
def test_a_log_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, why: str
) -> None:
    """One line says which file and why, and the next region is not kept from its turn."""
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "acts_once-cn-hangzhou.log").symlink_to("/dev/full")
    monkeypatch.setattr(deploy, "BUILD", Path(place.format(folder=tmp_path)))
    monkeypatch.setattr(deploy, "SERVERLESS_DEVS", ("echo",))
    region, said = REGIONS["cn-hangzhou"], io.StringIO()
    report = Report(Terminal(file=said, soft_wrap=True))

    def acts_once(s: ServerlessDevs, _: Target, __: Report) -> None:
        s.run("deploy")

    done = deploy.Deployer(acts_once, Access("somebody"), {}, report).run(
        Target(region, "1234567890123456", {})
    )

    assert not done
    assert f": {why}" in said.getvalue()
    assert "run the command again" in said.getvalue()


def test_a_deployment_that_is_stopped_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C names the step and the region, and how to continue; the next region is not begun."""

    def stopped(_: ServerlessDevs, __: Target, report: Report) -> None:
        with report.step("Deploy the queue"):
            raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "BUILD", tmp_path)
    said = io.StringIO()
    report = Report(Terminal(file=said, soft_wrap=True))

    with pytest.raises(SystemExit) as ended:
        deploy.Deployer(stopped, Access("somebody"), {}, report).run(
            Target(REGIONS["cn-hangzhou"], "1234567890123456", {})
        )

    assert ended.value.code == 130
    assert "cn-hangzhou of account 1234567890123456" in said.getvalue()
    assert "✗ Deploy the queue" in said.getvalue()
    assert "make remove REGION=cn-hangzhou" in said.getvalue()


def test_a_sigterm_ends_it_as_ctrl_c_does(deployer: Deployer) -> None:
    """Otherwise a running command would stay behind, and go on to change the account."""
    handlers: list[object] = []
    deployer.account.refuse = lambda *_: handlers.append(signal.getsignal(signal.SIGTERM))

    deployer("deploy", *HERE)

    assert {*handlers} == {signal.default_int_handler}


def test_empty_variables_of_serverless_devs_do_not_count(deployer: Deployer) -> None:
    """They would win over the shell's key, so they are not handed on."""
    result = deployer("deploy", *HERE, **dict.fromkeys(preflight.KEY_PAIR, ""))

    assert result.exit_code == 0, result.output
    assert not {*preflight.KEY_PAIR} & deployer.account.environment.keys()


def test_a_dollar_in_a_reason_arrives(deployer: Deployer) -> None:
    """Neither a variable nor a file of the deployer gets into the function."""
    exemptions = [{"bucket": "tmp-*", "reason": "costs $5, ${env('HOME')}, $HOME"}]

    result = deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(exemptions))

    assert result.exit_code == 0, result.output
    assert "$" not in deployer.account.environment["GUARD_EXEMPTIONS"]
    assert json.loads(deployer.settings()["GUARD_EXEMPTIONS"]) == exemptions


# What is not begun.


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--region", "mars-1"), {}, "OSS Tables is not documented for the region 'mars-1'"),
        ((*HERE, "--region", "mars-1"), {}, "'mars-1'"),
        ((), {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": None}, "There are no credentials"),
        ((), {"ALIBABA_CLOUD_ACCOUNT_ID": None}, "The account of the access key"),
        ((), {"GUARD_MODE": "protect"}, "GUARD_MODE"),
        ((), {"GUARD_RUNTIME": "python3.13"}, "No layer can be built for python3.13"),
        ((), {"GUARD_MOD": "detect"}, "Did you mean GUARD_MODE?"),
        (
            (),
            {"GUARD_ACCOUNTS": "11111,22222", "GUARD_ACCOUNTS_PER_SHARE": "1"}
            | {"GUARD_SWEEP_CONCURRENCY": "1"},
            "GUARD_SWEEP_CONCURRENCY is 1, but 3 accounts are 3 shares",
        ),
        ((), {"GUARD_CONTACT_GROUP": "${env('HOME')}"}, "GUARD_CONTACT_GROUP contains a $"),
        ((), {"ci_serverless_devs_key": ""}, "ci_serverless_devs_key is not an access key in JSON"),
        (
            (),
            {"GUARD_ALLOWED_ACCOUNTS": ",".join(str(10**15 + number) for number in range(250))},
            "4,096 are allowed",
        ),
    ],
    ids=[
        *("region", "one of two", "no key", "no account", "setting", "runtime"),
        *("a misspelt name", "shares", "expansion", "no key in JSON", "too large"),
    ],
)
def test_what_cannot_succeed_is_not_begun(
    deployer: Deployer, arguments: tuple[str, ...], environment: dict[str, str | None], said: str
) -> None:
    """The check names what is wrong, in whichever region, and nothing is touched in any."""
    result = deployer("deploy", *arguments, **environment)

    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Nothing was started." in result.output
    assert deployer.account.commands == []


def test_without_node_nothing_is_begun(deployer: Deployer) -> None:
    """Serverless Devs runs on it."""
    deployer.node = None

    result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert "Node.js is not installed" in result.output
    assert not Path("build").exists()


def test_a_clock_that_is_ahead_stops_it(deployer: Deployer) -> None:
    """Serverless Devs would wait for ever for the events of the stack."""
    deployer.account.seconds_ahead = 75.2

    result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert "This machine's clock is 75 s ahead" in result.output
    assert deployer.account.commands == []


def misspell(template: Path) -> None:
    """Write a key of the template in another way."""
    text = template.read_text("utf-8")
    assert "destinationConfig:" in text
    template.write_text(text.replace("destinationConfig:", "destinationsConfig:"), "utf-8")


@pytest.mark.parametrize("command", ["deploy", "plan"])
def test_a_misspelt_template_stops_it(deployer: Deployer, command: str) -> None:
    """`s verify` accepts any key, and `s deploy` would send it."""
    misspell(Path("template.yaml"))

    result = deployer(command, *HERE)

    assert result.exit_code == 2
    assert "encrypt_on_create: asyncInvokeConfig.destinationsConfig is unknown" in result.output
    assert deployer.account.commands == []


def test_a_misspelt_template_does_not_stop_a_removal(deployer: Deployer) -> None:
    """What is deployed has to go, whatever the template of today says about it."""
    assert deployer("deploy", *HERE).exit_code == 0
    misspell(Path("template.yaml"))

    result = deployer("remove", *HERE, "--yes")

    assert result.exit_code == 0, result.output
    assert deployer.account.place().functions == {}


@pytest.mark.parametrize("command", [("deploy",), ("plan",), ("remove", "--yes")])
def test_a_file_that_would_choose_another_account_stops_it(
    deployer: Deployer, command: tuple[str, ...]
) -> None:
    """Serverless Devs would act in the account of the file, whatever was printed before."""
    Path(".env").write_text("AccountID=9999999999999999\nAccessKeyID=LTAI-other\n")

    result = deployer(*command, *HERE)

    assert result.exit_code == 2
    assert "would read .env" in result.output
    assert deployer.account.commands == []


@pytest.mark.parametrize("command", [("deploy",), ("plan",), ("remove", "--yes")])
def test_the_account_that_acts_is_the_one_that_was_announced(
    deployer: Deployer, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever another one comes from, the resolved template gives it away."""
    monkeypatch.setattr(deploy, "find_account", lambda _: "9999999999999999")

    result = deployer(*command, *HERE)

    assert result.exit_code == 2
    assert f"acts in account 9999999999999999, not {ACCOUNT}" in result.output
    assert deployer.account.commands == []


@pytest.mark.parametrize(("set_to", "region"), [("cn-beijing", "cn-beijing"), ("", "cn-hangzhou")])
def test_the_region_of_the_shell_is_the_default(
    deployer: Deployer, set_to: str, region: str
) -> None:
    """Without REGION it is ALIBABA_CLOUD_REGION, and without that the template's."""
    deployer("deploy", ALIBABA_CLOUD_REGION=set_to)

    assert [*deployer.account.places] == [region]


def test_a_configured_alias_is_enough(deployer: Deployer) -> None:
    """Without a key in the shell, what `s config add` set up is used; nobody else can read."""
    (deployer.home / ".s").mkdir()
    (deployer.home / ".s" / "access.yaml").write_text("other: {}\ndefault:\n  AccountID: x\n")
    without_key = dict.fromkeys(KEY)

    result = deployer("deploy", *HERE, **without_key)
    planned = deployer("plan", *HERE, **without_key)
    deployer.account.refuse = lambda *_: "Forbidden"
    refused = deployer("plan", *HERE, **without_key)

    assert [each.exit_code for each in (result, planned, refused)] == [0, 0, 0], result.output
    assert "the alias `default` of Serverless Devs" in result.output
    assert "the deployed settings are not read" in result.output
    assert planned.output.count("as planned") == 2
    assert "the plan assumes version 1" in refused.output


# A removal.


def test_what_was_deployed_can_be_removed(deployer: Deployer) -> None:
    """Functions first, so that no event meets a missing role. A part that stays does not keep the
    others; the end names it, and the next time it goes too."""
    deployer("deploy", *HERE)
    deployer.account.commands.clear()
    deployer.account.refuse = lambda _, command, __: "AccessDenied" if "layer" in command else None

    failed = deployer("remove", "--yes", *HERE)
    place = deployer.account.place()
    left = (len(place.functions), place.stack, [*place.layers])
    deployer.account.refuse = lambda *_: None
    result = deployer("remove", "--yes", *HERE)

    words = [each.split()[1:3] for each in deployer.account.commands[:4]]
    assert words == [
        ["encrypt_on_create", "remove"],
        ["sweep", "remove"],
        ["sweep", "layer"],
        ["infra", "remove"],
    ]
    assert failed.exit_code == 1
    assert "Not removed from cn-hangzhou: the layer, all versions" in failed.output
    assert left == (0, None, [1])
    assert result.exit_code == 0, result.output
    assert place.layers == []


def test_what_a_function_needs_stays_as_long_as_it_does(deployer: Deployer) -> None:
    """Without its role, queue and log a function that events still start would fail unseen."""
    deployer("deploy", *HERE)
    refusal = "AccessDenied: 403, DeleteTrigger"
    deployer.account.refuse = lambda _, command, __: refusal if "sweep remove" in command else None

    failed = deployer("remove", "--yes", *HERE)

    assert failed.exit_code == 1
    assert refusal in failed.output
    assert "Not removed from cn-hangzhou: sweep" in failed.output
    assert "the queue, the roles, the alarms and the logs (kept for them)" in failed.output
    left = deployer.account.place()
    assert (set(left.functions), left.stack is not None) == ({SWEEP}, True)


def test_removing_asks_first(deployer: Deployer) -> None:
    """The dead letters and the logs go too: a slip of the hand must not do that."""
    result = deployer("remove", *HERE, "--region", "us-east-1")

    assert result.exit_code == 1
    assert (
        f"Remove the guard from cn-hangzhou of account {ACCOUNT} (3 dead letters), us-east-1 of"
        f" account {ACCOUNT} (3 dead letters), with the functions, the layer, the"
        " dead letters and the logs of 90 days?"
    ) in result.output
    assert deployer.account.commands == []


def test_removing_takes_no_region_for_granted(deployer: Deployer) -> None:
    """Not even that of the shell: it may be left from something else."""
    result = deployer("remove", "--yes", ALIBABA_CLOUD_REGION="cn-beijing")

    assert result.exit_code == 2
    assert "make remove REGION=cn-hangzhou" in result.output
    assert deployer.account.commands == []


def test_the_logs_can_be_kept(deployer: Deployer) -> None:
    """The stack stays with its queue and its logs; nothing is left that writes into them."""
    deployer("deploy", *HERE)

    asked = deployer("remove", *HERE, "--keep-logs")
    result = deployer("remove", *HERE, "--keep-logs", "--yes")

    assert "The roles, the dead letters and the logs stay." in asked.output
    assert (asked.exit_code, result.exit_code) == (1, 0), result.output
    left = deployer.account.place()
    assert (left.functions, left.layers, left.stack is None) == ({}, [], False)


# Settings that last.

STATED = {
    "GUARD_MODE": "detect",
    "GUARD_EXEMPTIONS": '[{"bucket": "tmp-*", "reason": "a test"}]',
    "GUARD_CONTACT_GROUP": "security",
    "GUARD_WEBHOOK": "https://hooks.example.com/robot?key=not-to-be-seen",
    "GUARD_ACTION_POLICY": "sls.builtin",
    "GUARD_SLOW_AFTER_MS": "90000",
    "GUARD_ALLOWED_ACCOUNTS": "2222222222222222",
    "GUARD_SWEEP_REGIONS": "cn-hangzhou,cn-shanghai",
    "GUARD_RUNTIME": "python3.10",
}
# The URL cannot be read back.
HOOK = {"GUARD_WEBHOOK": STATED["GUARD_WEBHOOK"]}


def test_another_shell_changes_nothing(deployer: Deployer) -> None:
    """A colleague who knows nothing of the settings takes none of them away."""
    deployer("deploy", *HERE, **STATED)
    before = deployer.settings(), runtimes(deployer, "cn-hangzhou")

    planned = deployer("plan", *HERE, **HOOK)
    result = deployer("deploy", *HERE, **HOOK)

    assert result.exit_code == 0, result.output
    assert "Compared with what is deployed: nothing changes" in planned.output
    assert (deployer.settings(), runtimes(deployer, "cn-hangzhou")) == before
    assert "->" not in result.output
    assert "not-to-be-seen" not in result.output


@pytest.mark.parametrize(
    ("changed", "question"),
    [
        ({"GUARD_MODE": "enforce"}, "Unencrypted buckets will be encrypted (detect -> enforce)"),
        ({"GUARD_WEBHOOK": None}, "GUARD_WEBHOOK is gone"),
    ],
    ids=["stated", "not stated"],
)
def test_what_opens_buckets_or_silences_somebody_asks(
    deployer: Deployer, changed: dict[str, str | None], question: str
) -> None:
    """Without an answer nothing is touched; YES=1 is one."""
    deployer("deploy", *HERE, **STATED)
    before, calls = deployer.settings(), [*deployer.account.commands]

    asked = deployer("deploy", *HERE, **(STATED | changed))
    deployer.answer = "n\n"
    refused = deployer("deploy", *HERE, **(STATED | changed))

    assert question in asked.output
    assert f"cn-hangzhou of account {ACCOUNT}" in asked.output
    assert (asked.exit_code, refused.exit_code) == (1, 1)
    assert "Set YES=1 where nobody can answer" in asked.output + asked.stderr
    assert (deployer.settings(), deployer.account.commands) == (before, calls)
    assert deployer("deploy", *HERE, "--yes", **(STATED | changed)).exit_code == 0
    assert deployer.settings()["GUARD_MODE"] == (STATED | changed)["GUARD_MODE"]


def test_functions_that_differ_have_to_be_stated(deployer: Deployer) -> None:
    """Which of the two is wanted is not known: neither is overwritten in silence."""
    deployer("deploy", *HERE)
    deployer.settings(function=CREATE)["GUARD_MODE"] = "detect"

    unstated = deployer("plan", *HERE)
    Path("guard.toml").write_text('mode = "enforce"')
    stated = deployer("plan", *HERE)

    assert unstated.exit_code == 2
    assert "The functions differ in GUARD_MODE: detect | sweep: enforce" in unstated.output
    assert stated.exit_code == 0, stated.output
    assert re.search(r"GUARD_MODE +detect \| sweep: enforce -> enforce", stated.output)


def test_a_file_states_settings_for_each_region(deployer: Deployer) -> None:
    """The shell counts before it, a region's table before what is for all; each source is shown."""
    Path("guard.toml").write_text(
        'mode = "detect"\nslow_after_ms = 70000\n'
        '[[exemptions]]\nbucket = "tmp-*"\nreason = "a test"\nexpires = 2099-12-31\n'
        '[regions.us-east-1]\nmode = "enforce"\n'
    )

    result = deployer("deploy", *HERE, "--region", "us-east-1", GUARD_SLOW_AFTER_MS="80000")

    assert result.exit_code == 0, result.output
    modes = [deployer.settings(region)["GUARD_MODE"] for region in ("cn-hangzhou", "us-east-1")]
    assert modes == ["detect", "enforce"]
    assert deployer.settings("us-east-1")["GUARD_SLOW_AFTER_MS"] == "80000"
    assert json.loads(deployer.settings("us-east-1")["GUARD_EXEMPTIONS"]) == [
        {"bucket": "tmp-*", "reason": "a test", "expires": "2099-12-31"}
    ]
    assert re.search(r"GUARD_SLOW_AFTER_MS +80000 \(shell\)", result.output)
    assert re.search(r"GUARD_MODE +detect \(file\)", result.output)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ('mod = "detect"', 'guard.toml: "mod" is not a setting; did you mean mode?'),
        ('[regions.cn-hangzhou]\nmode = "protect"', "GUARD_MODE"),
        ('[regions.cn-hangzou]\nmode = "detect"', "the region 'cn-hangzou'"),
        ('mode = "\udcff"', "guard.toml is not UTF-8"),
    ],
    ids=["key", "value in a region", "region", "no UTF-8"],
)
def test_a_wrong_file_stops_it(deployer: Deployer, file: str, said: str) -> None:
    """Before anything is begun, with the key at fault."""
    Path("guard.toml").write_bytes(file.encode("utf-8", "surrogateescape"))

    result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert said in result.output
    assert "Nothing was started." in result.output
    assert deployer.account.commands == []


def test_a_named_file_counts_instead(deployer: Deployer, tmp_path: Path) -> None:
    """CONFIG= names another place; one that is not there stops the deployment."""
    Path("guard.toml").write_text('mode = "protect"')
    named = tmp_path / "production.toml"
    # As some editors write it, with a byte order mark.
    named.write_text('\ufeffmode = "detect"', "utf-8")

    result = deployer("plan", *HERE, "--config", str(named))
    missing = deployer("plan", *HERE, "--config", str(tmp_path / "gone.toml"))

    assert re.search(r"GUARD_MODE +detect \(file\)", result.output)
    assert (result.exit_code, missing.exit_code) == (0, 2)
    assert "gone.toml cannot be read" in missing.output


def test_settings_that_cannot_be_read_stop_it(deployer: Deployer) -> None:
    """Otherwise they would be turned back in silence."""
    deployer.unreadable = ["read_deployed"]

    result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert "The deployed settings are not readable: 403 AccessDenied" in result.output
    assert deployer.account.commands == []


# Exemptions that are too long for a variable.

MANY = [{"bucket": f"scratch-{number}-*", "reason": "an example: $5"} for number in range(60)]


def test_long_exemptions_go_into_a_file(deployer: Deployer, checkout: Path) -> None:
    """All variables of a function may have 4 KB; both functions find the file in their code."""
    tables = (
        f"bucket = {json.dumps(x['bucket'])}\nreason = {json.dumps(x['reason'])}" for x in MANY
    )
    Path("guard.toml").write_text("".join(f"[[exemptions]]\n{table}\n" for table in tables))

    result = deployer("deploy", *HERE)
    again = deployer("deploy", *HERE)

    assert (result.exit_code, again.exit_code) == (0, 0), result.output + again.output
    assert "Is that wanted?" not in again.output
    for function in deployer.account.place().functions.values():
        variable = function["environmentVariables"]["GUARD_EXEMPTIONS"]
        code = str(checkout / function["code"])
        read = Settings.from_environment({"GUARD_EXEMPTIONS": variable, "FC_FUNC_CODE_PATH": code})
        assert variable.startswith("file:exemptions-")
        assert [(one.bucket, one.reason) for one in read.exemptions] == [
            (entry["bucket"], entry["reason"]) for entry in MANY
        ]


def test_a_file_of_exemptions_that_is_elsewhere_has_to_be_stated(deployer: Deployer) -> None:
    """It cannot be read back: another checkout stops, or asks."""
    deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY))
    for file in Path().glob("functions/*/exemptions-*.json"):
        file.unlink()

    unstated = deployer("deploy", *HERE)
    fewer = deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY[:-1]))
    same = deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY, indent=1))

    assert unstated.exit_code == 2
    assert "state the exemptions in guard.toml" in unstated.output
    assert fewer.exit_code == 1
    assert "Other exemptions than those of the deployed file:exemptions-" in fewer.output
    assert same.exit_code == 0, same.output


# The price.


def test_the_watch_names_its_price_and_asks(deployer: Deployer) -> None:
    """To turn it on costs more, and has to be wanted; what gets cheaper does not."""
    regions = ",".join(preflight.REGIONS)
    first = deployer("deploy", *HERE, GUARD_WATCH_SECONDS="0", GUARD_AUDIT_TABLES="true")
    watched = {"GUARD_WATCH_SECONDS": "5", "GUARD_SWEEP_REGIONS": regions}
    planned = deployer("plan", *HERE, **watched)
    asked = deployer("deploy", *HERE, **watched)
    before = deployer.sweep_size()
    done = deployer("deploy", *HERE, "--yes", **watched)
    eight = deployer.sweep_size()
    cheaper = deployer("deploy", *HERE, GUARD_AUDIT_TABLES="late")

    assert [each.exit_code for each in (first, planned, asked, done, cheaper)] == [0, 0, 1, 0, 0]
    price = "55 of 60 seconds: about 13.67 USD a month instead of 0.13"
    assert [price in each.output for each in (first, planned, asked, done, cheaper)] == (
        [False, True, True, True, False]
    )
    assert re.search(r"GUARD_WATCH_SECONDS +0 -> 5 \(shell\)", planned.output)
    assert f"cn-hangzhou: The sweep function looks for new buckets for {price}" in asked.output
    assert (before, eight, deployer.sweep_size()) == ((0.25, 256), (0.25, 256), (0.05, 128))


def test_a_first_deployment_names_its_price(deployer: Deployer) -> None:
    """A script that deploys for the first time is not stopped; somebody at a terminal is asked."""
    planned = deployer("plan", *HERE)
    with patch.object(deploy, "is_terminal", lambda: True):
        asked = deployer("deploy", *HERE)
    done = deployer("deploy", *HERE)

    assert [each.exit_code for each in (planned, asked, done)] == [0, 1, 0], done.output
    for each in (planned, asked, done):
        assert "about 3.27 USD a month by list prices" in each.output
    assert "Is that wanted?" in asked.output


# The plan.


def test_a_plan_shows_old_and_new(deployer: Deployer) -> None:
    """Of settings, of the template and of the code, each with what is deployed."""
    deployer("deploy", *HERE, **STATED)
    template = Path("template.yaml").read_text("utf-8")
    Path("template.yaml").write_text(template.replace("TTL: 90", "TTL: 30"), "utf-8")
    Path("functions", "sweep", "index.py").write_text("another handler", "utf-8")

    result = deployer("plan", *HERE, GUARD_MODE="enforce", **HOOK)

    assert result.exit_code == 0, result.output
    for line in (
        r"GUARD_MODE +detect -> enforce \(shell\)",
        r"GUARD_CONTACT_GROUP +security \(deployed\)",
        r"GUARD_WEBHOOK +\(set\) \(shell\)",
        r"Compared with what is deployed: 5 changes",
        r"infra\.Resources\.LogStore\.Properties\.TTL  90 -> 30",
        r"sweep\.environmentVariables\.GUARD_MODE  detect -> enforce",
        r"encrypt_on_create\.code and layer  [0-9a-f]{16} -> [0-9a-f]{16}",
    ):
        assert re.search(line, result.output), (line, result.output)


def test_a_plan_of_a_first_deployment_shows_all_that_it_creates(deployer: Deployer) -> None:
    """The stack with its resources, and both functions."""
    result = deployer("plan", *HERE)

    assert result.exit_code == 0, result.output
    assert "infra  - -> the stack oss-tables-encryption-guard" in result.output
    assert f"sweep  - -> the function {SWEEP}" in result.output
    assert f"encrypt_on_create  - -> the function {CREATE}" in result.output
    assert re.search("DeadLetterQueue +ALIYUN::MNS::Queue", result.output)
    assert "Serverless Devs creates service-linked roles" in result.output
    assert deployer.account.places["cn-hangzhou"] == Place()


def test_a_plan_names_a_stack_that_no_deployment_can_update(deployer: Deployer) -> None:
    """It says so before the deployment fails there."""
    deployer.account.place().stack = Stack("CREATE_ROLLBACK_COMPLETE", {}, {})

    result = deployer("plan", *HERE)

    assert "! the stack oss-tables-encryption-guard is in CREATE_ROLLBACK_COMPLETE" in result.output
    assert "make remove REGION=cn-hangzhou" in result.output


def test_a_plan_that_cannot_read_says_so(deployer: Deployer) -> None:
    """Nothing is called unchanged that nobody could look at."""
    deployer.unreadable = ["read_parts"]

    result = deployer("plan", *HERE)

    assert result.exit_code == 2
    assert "What is deployed is not readable: 403 AccessDenied" in result.output
