"""Mail out through an SMTP server. What a failure means is decided here, by how far the exchange came."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import getaddresses
from urllib.parse import unquote, urlsplit

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError

TIMEOUT_SECONDS = 15.0
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def send_mail(url: str, message: EmailMessage, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """The server behind ``url`` has taken charge of ``message`` for every address it is to.

    ``url`` is ``smtp://``, ``smtp+starttls://`` or ``smtps://`` ``[user:password@]host[:port]``.
    SMTP knows no idempotency: once the text has been sent and no answer came, the mail may be on its
    way, and that is ``OutcomeUnknown``. Before that it surely is not, and ``RetryLater`` says so.
    Source: RFC 5321, 4.2.1 (4yz: try again; 5yz: do not) and 4.5.4.
    """
    recipients = [address for _, address in getaddresses(message.get_all("To", [])) if address]
    server = _connect(url, timeout_seconds)
    try:
        _envelope(server, message, recipients)
        _hand_over(server, message)
    finally:
        _leave(server)


def _connect(url: str, timeout_seconds: float) -> smtplib.SMTP:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Misconfigured(
            "mail.url_wrong", f"SMTP_URL should begin with one of {', '.join(_PORTS)}, then ://host"
        )
    port = parts.port or _PORTS[parts.scheme]
    try:
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                parts.hostname, port, timeout=timeout_seconds, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(parts.hostname, port, timeout=timeout_seconds)
    except (OSError, smtplib.SMTPException) as fault:
        raise _before_data(fault) from fault
    try:
        if parts.scheme == "smtp+starttls":
            server.starttls(context=ssl.create_default_context())
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
    except (OSError, smtplib.SMTPException) as fault:
        _leave(server)
        raise _before_data(fault) from fault
    return server


def _envelope(server: smtplib.SMTP, message: EmailMessage, recipients: list[str]) -> None:
    if not recipients:
        raise Refused("mail.no_recipient", f"To is {message['To']!r}: it should be a mail address")
    sender = getaddresses([str(message["From"])])[0][1]
    try:
        server.ehlo_or_helo_if_needed()
        answers = [server.mail(sender), *(server.rcpt(address) for address in recipients)]
    except (OSError, smtplib.SMTPException) as fault:
        raise _before_data(fault) from fault
    for code, text in answers:
        if code not in (250, 251):
            raise _answered(code, text)


def _hand_over(server: smtplib.SMTP, message: EmailMessage) -> None:
    try:
        code, text = server.data(message.as_bytes())
    except smtplib.SMTPResponseException as fault:
        raise _answered(fault.smtp_code, fault.smtp_error) from fault
    except (OSError, smtplib.SMTPException) as fault:
        raise OutcomeUnknown(
            "mail.no_answer", f"the text was sent, then {type(fault).__name__}: it may be delivered"
        ) from fault
    if code != 250:
        raise _answered(code, text)


def _before_data(fault: Exception) -> WorkError:
    if isinstance(fault, smtplib.SMTPAuthenticationError):
        return Misconfigured(
            "mail.credentials_refused", f"the mail server refuses to sign us in: {fault.smtp_code}"
        )
    if isinstance(fault, smtplib.SMTPResponseException):
        return _answered(fault.smtp_code, fault.smtp_error)
    if isinstance(fault, ssl.SSLCertVerificationError):
        return Misconfigured(
            "mail.certificate_wrong", f"the mail server's certificate: {fault.verify_message}"
        )
    return RetryLater("mail.unavailable", f"the mail server is away: {type(fault).__name__}")


def _answered(code: int, text: bytes | str) -> WorkError:
    said = f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"[:300]
    return Refused("mail.refused", said) if code >= 500 else RetryLater("mail.unavailable", said)


def _leave(server: smtplib.SMTP) -> None:
    """Say goodbye. What was handed over stays handed over, so a failure here means nothing."""
    try:
        server.quit()
    except (OSError, smtplib.SMTPException):
        server.close()
