"""Fixtures that several test files use."""

import sys

import pytest

from imagecot import cli


@pytest.fixture
def imagecot(monkeypatch, capsys, tmp_path):
    """Run the command line inside this process, in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imagecot", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call
