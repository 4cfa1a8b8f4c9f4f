"""The command line's help: each has examples, and they are command lines that it takes."""

import shlex

import pytest

from spawner_tokens.__main__ import COMMANDS, make_parser, split_arguments


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_help_has_examples_that_can_be_run(command, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args([*command.split(), "--help"])
    _, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert examples
    for line in examples.splitlines():
        program, *arguments = shlex.split(line.partition("|")[0])
        own, _ = split_arguments(arguments)
        assert program == "spawner-tokens" and own[: bool(command)] == command.split()
        make_parser().parse_args(own)
