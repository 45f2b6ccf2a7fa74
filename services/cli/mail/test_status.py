"""What is known of a test mail, in words, and what to do about it. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.cli.output import format_time
from services.ledger.queries import WorkLine
from services.mail.advice import MailSender, plan_advice
from services.mail.outbox_admin import MailLine


@dataclass(frozen=True, slots=True, kw_only=True)
class TestStatus:
    """What is known of a test. ``is_final`` is false while more may come of it by itself."""

    mail_id: int
    status: str
    is_final: bool
    said: str
    code: str = ""
    to_do: str = ""
    transport: str = ""
    message_id: str = ""
    provider_id: str = ""

    @property
    def is_sent(self) -> bool:
        """Whether the other side has taken charge of it."""
        return self.status == "sent"


def judge(mail: MailLine, work: WorkLine, way: MailSender, until: datetime) -> TestStatus:
    """Return what is known of a test at a glance. Pure. ``until``: nobody waits beyond it."""
    code, detail = work.error_code or mail.error_code or "", work.last_error or mail.last_error or ""
    reason = f"{code}: {detail}" if code else ""
    status, is_final, said, to_do = mail.status, True, "", ""
    advice, look = plan_advice(code, way), f"fleet mail show {mail.id}"
    if mail.status == "sent":
        code, said = "", f"sent through {mail.transport}, Message-ID {mail.message_id}"
        said += f"; there it is {mail.provider_id}" if mail.provider_id else ""
    elif mail.status == "unknown":
        said, to_do = f"handed over, and nobody knows whether it arrived: {reason}", look
    elif mail.status == "refused":
        said, to_do = f"refused: {reason}", advice or look
    elif work.status in ("dead", "discarded"):
        status = work.status
        said = f"not sent: {reason}"
        to_do = advice or f"mend what it says; then celery -A tasks requeue --id {work.id}"
    elif work.next_retry_at is not None and work.locked_at is None:
        is_final = work.next_retry_at > until
        said = f"waits until {format_time(work.next_retry_at)}: {reason}"
        to_do = f"it goes out by itself, {look} tells; fleet mail connections says more"
    else:
        is_final = False
        said = "a worker has it" if work.locked_at or work.status != "pending" else "waits for a worker"
        to_do = look
    return TestStatus(
        mail_id=mail.id,
        status=status,
        is_final=is_final,
        said=said,
        code=code,
        to_do=to_do,
        transport=mail.transport,
        message_id=mail.message_id,
        provider_id=mail.provider_id,
    )


def plan_late(fate: TestStatus, seconds: float) -> TestStatus:
    """Return ``fate`` as that of a mail which was not sent in time."""
    return replace(
        fate,
        said=f"not sent within {seconds:g} s: {fate.said}",
        to_do=f"is a worker of queue email running, and is nothing paused? fleet doctor; then {fate.to_do}",
    )
