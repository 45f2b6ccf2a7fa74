"""Files of other projects are those of their release, unchanged."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_LINE = re.compile(r"^\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|$", re.MULTILINE)
READMES = sorted(
    one for one in (*ROOT.glob("services/**/vendor/README.md"), *ROOT.glob("tests/**/vendor/README.md"))
)


@pytest.mark.parametrize("readme", READMES, ids=lambda one: str(one.relative_to(ROOT)))
def test_a_vendored_file_has_its_checksum_and_its_licence(readme: Path) -> None:
    text = readme.read_text()
    files = dict(_LINE.findall(text))

    assert files == {name: sha256((readme.parent / name).read_bytes()).hexdigest() for name in files}
    licences = set(re.findall(r"\(`([^`]+)`\)", text))
    assert {one.name for one in readme.parent.iterdir()} == {"README.md", *files, *licences}


def test_there_are_vendored_files_of_the_console_and_of_the_tests() -> None:
    assert len(READMES) == 2
