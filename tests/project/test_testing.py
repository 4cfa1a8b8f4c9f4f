"""The contract as a spawner's author has it: it passes what is right, and catches each fault."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import faulty_spawners
from ..support.pages import blocks

# One run of pytest for all of them, which is long on a busy machine.
pytestmark = [pytest.mark.xdist_group("theirs"), pytest.mark.timeout(600)]

RIGHT = ["Right", "IsNamedByUser", "WritesAtOnce", "SeesNothingNew"]
ELSEWHERE = ["IsInTheRoot", "IsWhereTheAuthorHasFiles"]

# Spawners with a fault, and the test that has to fail.
CAUGHT_BY = {
    "ExpandsVariables": "a_server_finds_all_of_its_files_whole",
    "CutsNames": "a_server_finds_all_of_its_files_whole",
    "KeepsWhatIsNone": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "WritesOnlyOnce": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "WritesInPlace": "a_reader_sees_the_old_file_or_the_new_one_and_never_a_part",
    "SaysNothing": "what_cannot_be_delivered_is_an_oserror_and_leaves_nothing",
    "SaysNothingBeforeTheStart": "what_cannot_be_delivered_is_an_oserror_and_leaves_nothing",
    "WithdrawsWhatWasWhole": "what_cannot_be_delivered_is_an_oserror_and_leaves_nothing",
    "WithdrawsWhatItDelivered": "nothing_is_left_of_a_server_that_has_stopped",
    "WithdrawsOnce": "nothing_is_left_of_a_server_that_has_stopped",
    "LeavesFilesBeside": "nothing_is_left_of_a_server_that_has_stopped",
    "WithdrawsByPrefix": "servers_at_once_have_nothing_of_each_other",
    "HasOneNewFileForAToken": "servers_at_once_have_nothing_of_each_other",
    "SweepsAll": "a_sweep_removes_what_a_hub_that_was_killed_has_left_and_no_more",
    "SweepsByPrefix": "a_sweep_removes_what_a_hub_that_was_killed_has_left_and_no_more",
    "SweepsWhatStarts": "a_sweep_removes_what_a_hub_that_was_killed_has_left_and_no_more",
    "LosesPublicFile": "nobody_but_the_servers_user_can_read_a_token",
    "IsOpenToItsGroup": "nobody_but_the_servers_user_can_read_a_token",
    "ClosesWhatItHasShown": "nobody_else_can_read_a_token_while_it_is_written_anew",
    "LogsLinesOfBase64": "a_token_is_in_no_log_output_state_or_error",
    "KeepsContentsInState": "a_token_is_in_no_log_output_state_or_error",
    "RaisesBecauseOfContents": "a_token_is_in_no_log_output_state_or_error",
}
LOOKS_AT_FILES = {
    "nobody_but_the_servers_user_can_read_a_token",
    "nobody_else_can_read_a_token_while_it_is_written_anew",
    "a_running_server_sees_what_changed_and_keeps_the_rest",
    "what_cannot_be_delivered_is_an_oserror_and_leaves_nothing",
    "a_token_is_in_no_log_output_state_or_error",
    "nothing_is_left_of_a_server_that_has_stopped",
    "a_sweep_removes_what_a_hub_that_was_killed_has_left_and_no_more",
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Run pytest in a repository that has nothing else: ``theirs(*tests)`` → its output."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "pytest.ini").touch()  # so no other configuration is read
    shutil.copy(faulty_spawners.__file__, folder / "test_theirs.py")
    names = ("my_spawner.py", "test_my_spawner.py", "test_my_hub.py")
    for name, block in zip(names, blocks("python3"), strict=True):
        (folder / name).write_text(block.values[0])

    def run(*tests):
        command = [sys.executable, "-m", "pytest", "-q", "-rfEsp", "-p", "no:cacheprovider", *tests]
        env = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "COLUMNS": "1000",  # a line for each failure
        }
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True).stdout

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def output(theirs):
    """What one run of all of them, and of the documentation's examples, prints."""
    (theirs.folder / "mine" / "tokens").mkdir(parents=True)
    tests = [f"Test{name}" for name in (*RIGHT, *ELSEWHERE)]
    tests += [f"Test{fault}::test_{test}" for fault, test in CAUGHT_BY.items()]
    hubs = "test_my_hub.py::TestWithMyHub::test_a_server_finds_all_of_its_files_whole"
    output = theirs("test_my_spawner.py", hubs, *(f"test_theirs.py::{test}" for test in tests))
    assert " error" not in output.splitlines()[-1], output
    return output


def find_failures(output, name):
    """Test → why it failed, of the contract of one spawner."""
    line = rf"^FAILED test_theirs.py::Test{name}::test_(\w+) - (.*)"
    return dict(re.findall(line, output, re.MULTILINE))


@pytest.mark.parametrize("right", RIGHT)
def test_a_backend_that_is_right_passes(output, right):
    assert find_failures(output, right) == {}
    # What only a running server could see is skipped for SeesNothingNew.
    assert re.findall(r"^SKIPPED \[(\d+)\].*infinite", output, re.MULTILINE) == ["3"]


def test_the_readmes_examples_pass(output):
    passed = re.findall(r"^(\w+) test_my_(?:spawner|hub).py::", output, re.MULTILINE)
    assert passed == ["PASSED"] * 11


@pytest.mark.parametrize("fault, caught_by", CAUGHT_BY.items())
def test_the_contract_catches_a_backend_that(output, fault, caught_by):
    assert caught_by in find_failures(output, fault)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_who_has_files_elsewhere_reads_which_methods_to_override(output, theirs, elsewhere):
    failures = find_failures(output, elsewhere)
    assert set(failures) == LOOKS_AT_FILES
    assert all(" override " in why for why in failures.values()), failures
    mine = theirs.folder / "mine"
    assert list(mine.rglob("*")) == [mine / "tokens"] and not Path("/tokens").exists()


def test_a_spawner_class_without_the_mixin_is_named(theirs):
    test = "test_a_server_finds_all_of_its_files_whole"
    mistakes = ("TestNoClass", "TestNoMixin")
    output = theirs(*(f"test_theirs.py::{mistake}::{test}" for mistake in mistakes))
    for mistake in mistakes:
        words = f"\n{mistake}.spawner_class has to be a class with TokenSpawnerMixin\n"
        assert words in output
    assert "Traceback" not in output and ">" not in output
