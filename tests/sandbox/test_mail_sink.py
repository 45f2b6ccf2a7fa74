"""The mail sink keeps what the standard library sends it, byte for byte."""

import smtplib
import socket
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest


@pytest.fixture
def sink(start, tmp_path):
    _, port = start("services.sandbox.mail_sink", "--folder", str(tmp_path / "mail box"))
    return port, tmp_path / "mail box"


def compose_mail(subject="A break", text="1 charge is missing.\n.\n..dots\nÜber 5 €\n"):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "fleet@example.com", "ada@example.com", subject
    mail.set_content(text)
    return mail


def kept(folder):
    return [
        message_from_bytes(file.read_bytes(), policy=policy.default) for file in sorted(folder.glob("*.eml"))
    ]


def test_mails_of_one_connection_are_kept_in_order(sink):
    port, folder = sink

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        for number in range(3):
            smtp.send_message(
                compose_mail(f"Break {number}"), to_addrs=["ada@example.com", "ben@example.com"]
            )

    mails = kept(folder)
    assert [mail["Subject"] for mail in mails] == ["Break 0", "Break 1", "Break 2"]
    assert mails[0]["X-Sink-To"] == "ada@example.com, ben@example.com"
    assert mails[0].get_content().replace("\r\n", "\n") == "1 charge is missing.\n.\n..dots\nÜber 5 €\n"


def test_reset_and_a_refused_order_of_commands_leave_no_mail(sink):
    port, folder = sink

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.ehlo()
        assert smtp.docmd("DATA")[0] == 503
        assert smtp.rcpt("")[0] == 501
        smtp.mail("fleet@example.com")
        smtp.rcpt("ada@example.com")
        smtp.rset()
        assert smtp.docmd("DATA")[0] == 503
        assert smtp.docmd("VRFY", "ada")[0] == 502
    assert kept(folder) == []


def test_client_that_hangs_up_midway_leaves_no_mail_and_no_harm(sink):
    port, folder = sink

    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhalf a line")
        client.recv(100)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.recv(100)
        client.sendall(b"x" * 200_000)

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.send_message(compose_mail())
    assert len(kept(folder)) == 1
