"""The command line, run in this process."""

from typer.testing import CliRunner

from tcseg.cli import app


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result
