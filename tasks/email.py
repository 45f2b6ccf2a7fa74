"""Queue ``email``: what people must know leaves by mail."""

from services.books.break_mail import BreakMail
from tasks.runner import work_task

reconciliation_mail = work_task("reconciliation_mail", BreakMail())
