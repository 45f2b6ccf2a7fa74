"""Queue ``email``: what people must know leaves by mail."""

from services.mail.send import MailSend
from tasks.runner import work_task

mail_send = work_task("mail_send", MailSend())
