"""Every option and argument of a command, also of one added later, refuses a value that does not exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.base import SHOP_ARGUMENT, ReportingCommand
from services.cli.main import main
from services.cli.params import (
    INPUT_FILE,
    OUTPUT_FILE,
    OUTPUT_FOLDER,
    KnownType,
    OutputPath,
    ParsedType,
    RowType,
    StoredType,
)
from services.cli.usage import PlainCommand
from services.core.errors import InputInvalid
from tests.cli.conftest import harbour
from tests.structure.test_examples import OPERATOR_COMMANDS, walk

__all__ = ["harbour"]

FREE_TEXTS = frozenset(
    """
    reason actor sender tenant_id client_id mailbox name owner_email accountant_email shopify_domain timezone
    currency stock_location_id stock_owner province gst_number pst_number qst_number registered pst_exempt
    slug changes names schedule period url sku skus point reference amount source
    file confirmed text by ai_cap sms_budget exchange_rates email
    postal_address mail_contact mails_per_day notion_data_source ai_uses prefix keys step subject
    shop_floor stages stage order orders
    error_code key origin delivery_key request_id recipients formats user_ids jobcode_ids group_ids""".split()  # noqa: SIM905 - shorter than a list
)
"""Names of parameters with any text, or whose text the command parses and refuses itself.

For those whose valid values depend on the shop of the same line ``test_unknown_values.py`` has a test.
"""
DEPENDS_ON_THE_PROVIDER = "fleet send topic"


def parameters() -> Iterator[tuple[str, click.Command, click.Parameter]]:
    for path, command in (*walk(main, "fleet"), *OPERATOR_COMMANDS):
        for param in command.params:
            yield f"{path} {param.name}", command, param


PARAMETERS = list(parameters())


def test_every_text_has_a_type_that_refuses_or_is_free() -> None:
    texts = {
        path: param.name
        for path, _, param in PARAMETERS
        if isinstance(param.type, click.types.StringParamType)
    }

    assert len(PARAMETERS) > 200
    assert {path for path, name in texts.items() if name not in FREE_TEXTS} == {DEPENDS_ON_THE_PROVIDER}


def test_every_number_of_a_row_has_a_type_that_looks_for_it() -> None:
    ids = [(path, p) for path, _, p in PARAMETERS if (p.name or "").removesuffix("s").endswith("_id")]
    elsewhere = {
        "stock_location_id",
        "inventory_item_id",
        "location_id",
        "client_id",
        "tenant_id",
        "request_id",
    }
    elsewhere |= {"user_ids", "jobcode_ids", "group_ids"}  # of QuickBooks Time

    assert len(ids) > 6
    assert [path for path, p in ids if p.name not in elsewhere and not isinstance(p.type, StoredType)] == []


def test_every_command_with_such_a_type_checks_it() -> None:
    stored = [(path, command) for path, command, param in PARAMETERS if isinstance(param.type, StoredType)]

    assert len(stored) > 40
    assert [path for path, command in stored if not isinstance(command, ReportingCommand)] == []


CLOSED = [
    pytest.param(param, id=path)
    for path, _, param in PARAMETERS
    if isinstance(param.type, KnownType | ParsedType | StoredType | click.Choice)
]


@pytest.mark.parametrize("param", CLOSED)
def test_a_closed_set_refuses_another_value(engine: Engine, harbour: str, param: click.Parameter) -> None:
    unknown = "99999" if param.type.name.endswith(" id") else "no-such-value"
    with pytest.raises((click.BadParameter, InputInvalid)), engine.connect() as tx:
        value = param.type.convert(unknown, param, None)
        assert isinstance(param.type, StoredType)
        param.type.check(tx, value, {"shop": harbour})


NUMBERS = [
    pytest.param(param, id=path)
    for path, _, param in PARAMETERS
    if isinstance(param.type, click.types.IntParamType | click.types.FloatParamType)
]


@pytest.mark.parametrize("value", ["abc", "nan", "", "1e999", "-99999999999999"])
@pytest.mark.parametrize("param", NUMBERS)
def test_a_wrong_number_is_named_with_what_is_right(param: click.Parameter, value: str) -> None:
    if value.startswith("-") and getattr(param.type, "min", None) is None:
        return
    with pytest.raises(click.BadParameter, match=rf"^'{value}' should be a (whole )?number( from| above|$)"):
        param.type.convert(value, param, None)


ARGUMENTS = [
    (path, param)
    for path, command, param in PARAMETERS
    if isinstance(param, click.Argument) and isinstance(command, PlainCommand)
]


def test_an_error_names_an_argument_as_options_without_the_brackets_of_the_usage() -> None:
    assert len(ARGUMENTS) > 40
    hints = [param.get_error_hint(click.Context(click.Command("x"))) for _, param in ARGUMENTS]
    assert [hint for hint in hints if re.search(r"[\[\]]|\.\.\.", hint)] == []


ROWS = [path.rpartition(" ")[0] for path, param in ARGUMENTS if isinstance(param.type, RowType)]


@pytest.mark.parametrize("path", ROWS)
def test_a_number_below_zero_is_no_option(path: str) -> None:
    refused = CliRunner().invoke(main, [*path.split()[1:], "-5"])

    assert refused.exit_code == 2
    assert refused.stderr.endswith("': '-5' should be a number above 0\n")
    assert "Error: Invalid value for '" in refused.stderr


REASONS = [pytest.param(command, id=path) for path, command, param in PARAMETERS if param.name == "reason"]


@pytest.mark.parametrize("command", REASONS)
def test_a_reason_has_at_most_2000_characters(command: click.Command) -> None:
    assert len(REASONS) > 20
    ctx = click.Context(command)
    ctx.params = {param.name or "": None for param in command.params} | {"reason": "x" * 2001}
    with pytest.raises(click.ClickException, match=r"reason has 2,001 characters: .* at most 2,000"), ctx:
        command.invoke(ctx)


def test_a_wrong_choice_is_named_with_those_that_exist() -> None:
    choices = [param for _, _, param in PARAMETERS if isinstance(param.type, click.Choice)]

    assert len(choices) > 5
    for param in choices:
        with pytest.raises(click.BadParameter, match=r"^'no-such' should be one of "):
            param.type.convert("no-such", param, None)


def test_every_file_that_is_read_is_an_input_file(tmp_path: Path) -> None:
    assert [path for path, _, p in PARAMETERS if isinstance(p.type, click.File)] == []
    assert [path for path, _, p in PARAMETERS if isinstance(p.type, click.Path)] == []
    assert len([param for _, _, param in PARAMETERS if param.type is INPUT_FILE]) > 5
    file = tmp_path / "file"
    file.touch()
    faults = {tmp_path: "is a folder", tmp_path / "none": "No such file", file / "inside": "Not a directory"}
    for path, fault in faults.items():
        with pytest.raises(click.BadParameter, match=f"^{path}: {fault}.*; name a file .*, or - for"):
            INPUT_FILE.convert(path, None, None)
    assert [str(INPUT_FILE.convert(path, None, None)) for path in ("-", file)] == ["-", str(file)]


def test_every_file_and_folder_that_is_written_is_checked_before_the_command_begins(tmp_path: Path) -> None:
    assert len([param for _, _, param in PARAMETERS if isinstance(param.type, OutputPath)]) > 5
    file, sub = tmp_path / "file", tmp_path / "new" / "folder"
    file.touch()
    faults = {
        OUTPUT_FILE: {
            tmp_path: "is a folder",
            tmp_path / "none" / "a": "No such file",
            file / "a": f"{file} is not a folder",
        },
        OUTPUT_FOLDER: {file: f"{file} is not a folder", file / "a": f"{file} is not a folder"},
    }
    for kind, of_kind in faults.items():
        for path, fault in of_kind.items():
            with pytest.raises(click.BadParameter, match=f"^{path}: {fault}.*; name a {kind.name} "):
                kind.convert(path, None, None)
    assert [OUTPUT_FILE.convert(path, None, None) for path in (file, tmp_path / "b")] == [
        file,
        tmp_path / "b",
    ]
    assert [OUTPUT_FOLDER.convert(path, None, None) for path in (tmp_path, sub)] == [tmp_path, sub]


def test_the_shop_is_named_in_one_way() -> None:
    """``--shop`` everywhere; ``fleet shops`` also has it as its argument."""
    for path, command, param in PARAMETERS:
        if param.type.name == "shop" and param.name != "source":  # the figures of a pool come from a shop
            is_argument = isinstance(param, click.Argument)
            assert is_argument == path.startswith("fleet shops "), path
            assert param.name == SHOP_ARGUMENT if is_argument else "--shop" in param.opts, path
            assert isinstance(command, ReportingCommand), path


def test_a_duration_or_a_rate_of_nothing_is_refused_and_the_help_names_a_unit() -> None:
    """Zero seconds would be an act on everything, or on nothing; only a replaced secret may end at once."""
    timed = [(path, p) for path, _, p in PARAMETERS if p.type.name in {"duration", "rate"}]
    may_be_zero = {"fleet shops secret previous_valid_for"}
    for path, param in timed:
        assert re.search(r"\d[smhd/]", getattr(param, "help", "")), (
            f"{path}: its help needs a value with a unit"
        )
        if path not in may_be_zero:
            with pytest.raises(click.BadParameter, match=r"'0' should be .* such as"):
                param.type.convert("0", param, None)

    assert len(timed) > 5


def test_a_number_of_seconds_is_above_zero_and_its_help_names_the_unit() -> None:
    seconds = [(path, p) for path, _, p in PARAMETERS if "--timeout" in p.opts]
    for path, param in seconds:
        assert "seconds" in getattr(param, "help", ""), path
        with pytest.raises(click.BadParameter, match="'0' should be a number above 0 and at most"):
            param.type.convert("0", param, None)

    assert len(seconds) > 2
