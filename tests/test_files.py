"""Files are whole or not there, under names that nobody foresees; names of other people's making lead nowhere."""

import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from imagecot.errors import ImagecotError
from imagecot.files import is_temporary, make_own_folder, write_atomically, write_text, write_whole
from imagecot.naming import inside, printable, safe_name


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_whole(tmp_path / "whole", b"data")
    write_atomically(tmp_path / "tensors", lambda path: save_file({"a": torch.zeros(1)}, path))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole", "tensors")}
    assert len(modes) == 1


def test_the_temporary_name_is_new_each_time_and_gone_afterwards(tmp_path):
    seen: list[Path] = []

    def note(path: Path) -> None:
        assert path.is_file() and path.stat().st_size == 0 and is_temporary(path.name)
        seen.append(path)

    for _ in range(2):
        write_atomically(tmp_path / "file", note)
    assert len(set(seen)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "out").symlink_to(precious)
    write_text(tmp_path / "out", "new")
    assert precious.read_text() == "precious"
    assert not (tmp_path / "out").is_symlink() and (tmp_path / "out").read_text() == "new"


def test_a_link_in_the_place_of_an_own_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "parts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImagecotError, match="parts is a link"):
        make_own_folder(tmp_path / "parts")
    assert make_own_folder(tmp_path / "deep/parts").is_dir()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_sentence_whoever_writes(error, tmp_path):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(ImagecotError) as caught:
        write_atomically(tmp_path / "file", fail)
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'file'}: ")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ones_own_passes_unchanged(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", lambda path: 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_torch_writes(tmp_path):
    """/dev/full takes no byte: torch's own error is understood."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    def fill(path: Path) -> None:
        torch.save({"a": torch.zeros(100_000)}, full)

    with pytest.raises(ImagecotError, match="cannot write"):
        write_atomically(tmp_path / "state.pt", fill)


@pytest.mark.parametrize("name", ["orm-12-3", "a.b_c", "0"])
def test_safe_names_stay(name):
    assert safe_name(name) == name


def test_unsafe_names_are_told_apart():
    names = ["../x", "..-x", "/x", "x/", "", ".", "..", "-rf", ".hidden", "a" * 300, "a" * 301, "x\0", "x\n", "ä"]
    made = [safe_name(name) for name in names]
    assert len(set(made)) == len(names)


@given(st.text())
def test_a_safe_name_is_a_file_of_its_folder(text):
    name = safe_name(text)
    path = Path("folder") / name
    assert path.name == name and path.parent == Path("folder")
    assert len(name) <= 80 and not name.startswith((".", "-"))
    assert safe_name(name) == name


def test_what_lies_inside_a_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to("/etc")
    folder = tmp_path / "in"
    assert inside(folder, "a/b.png") == folder / "a/b.png"
    for name in ("../x", "/etc/passwd", "link/passwd", "a/../../x", "nul\0"):
        assert inside(folder, name) is None


def test_what_steers_a_terminal_is_spelt_out():
    assert printable("a\x1b[2Jb\r\x07\u202e") == "a\\x1b[2Jb\\r\\x07\\u202e"
    assert printable("äpple 🍎\n\tcup") == "äpple 🍎\n\tcup"
